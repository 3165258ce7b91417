"""`g5kdeploy ssh NODE`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from g5kdeploy.cli import complete
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import experiment_option, run_option, testbed_option, user_option
from g5kdeploy.events.failure import Failure, InvalidUse
from g5kdeploy.output.screen import Screen


@make(
    "ssh",
    "Log in on NODE with OpenSSH, over the gateway and with the host keys that g5kdeploy knows; or run COMMAND there. "
    "NODE is a node of the run, by name or by role. The exit code is OpenSSH's.",
    "g5kdeploy ssh exporter\ng5kdeploy ssh vm-1 uname -r\ng5kdeploy ssh --testbed lab vm-1.lab.grid5000.fr",
)
@click.argument("node", shell_complete=complete.nodes)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
@user_option
@experiment_option
@run_option
@testbed_option
def command(
    screen: Screen,
    node: str,
    words: tuple[str, ...],
    user: str | None,
    experiment: Path,
    run_id: str | None,
    testbed: str | None,
) -> None:
    """This process becomes OpenSSH: the terminal is its own."""
    from g5kdeploy.cli.nodes import choose

    chosen = choose([node], experiment, run_id, testbed)
    if len(chosen.names) != 1:
        raise InvalidUse(f"`{node}` means {len(chosen.names)} nodes", cause=", ".join(chosen.names), hint="name one")
    (name,) = chosen.names
    with chosen.reach() as reach:
        call = [*reach.ssh_command(name, chosen.login(name, user)), *words]
    screen.out.flush()
    try:
        os.execvp(call[0], call)  # noqa: S606  the words are ours, and no shell reads them
    except OSError as error:
        raise Failure("OpenSSH is missing", cause=str(error), hint="apt-get install openssh-client") from error


command.context_settings = {"ignore_unknown_options": True, "allow_interspersed_args": False}
