"""`g5kdeploy console NODE`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import clean
from g5kdeploy.cli import complete
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import experiment_option, run_option, testbed_option
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.output.screen import Screen, is_terminal

SECONDS = 120.0  # for a console that is read and not typed at


@make(
    "console",
    "Show the serial console of NODE (a name or a role of the run) with the site's kaconsole3; of a run that is over, "
    "the console that was collected. On a terminal it is kaconsole3's own session.",
    "g5kdeploy console vm-1\ng5kdeploy console exporter > console.log",
)
@click.argument("node", shell_complete=complete.nodes)
@experiment_option
@run_option
@testbed_option
def command(screen: Screen, node: str, experiment: Path, run_id: str | None, testbed: str | None) -> ExitCode:
    """What comes from a console is cleaned before it is printed, unless it is a session on a terminal."""
    from g5kdeploy.cli.logs import collected, one
    from g5kdeploy.cli.nodes import choose
    from g5kdeploy.testbed.request import frontend_of, site_of

    chosen = choose([node], experiment, run_id, testbed)
    name = one(chosen, node)
    if chosen.run is not None and chosen.run.released:
        for path in collected(screen, chosen, name, "console"):
            print(clean(path.read_text(errors="replace")).rstrip("\n"), file=screen.out)
        return ExitCode.DONE
    frontend = frontend_of(site_of(name))
    call = ["kaconsole3", "-m", name]
    with chosen.reach() as reach:
        if is_terminal(sys.stdin) and is_terminal(screen.out):
            words = reach.ssh_command(frontend, None)
            whole = [words[0], "-t", *words[1:], shlex.join(call)]
            os.execvp(whole[0], whole)  # noqa: S606  the words are ours, and no shell reads them
        deadline = Deadline.after(SECONDS, f"the console of {name}")
        reach.remote(frontend, user=None).run(
            shlex.join(call), deadline, out=lambda line: print(line, file=screen.out, flush=True)
        )
    return ExitCode.DONE
