"""`g5kdeploy exec NODES -- COMMAND`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import clean
from g5kdeploy.cli import complete, settings
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import experiment_option, output_option, run_option, testbed_option, user_option
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.node import Result


@make(
    "exec",
    "Run COMMAND on NODES at once, and show equal answers together. NODES: names, roles, folded sets, or `all`, with "
    "commas between them. Exit code 0 when it went well everywhere, 5 when on some of them, 1 when nowhere.",
    "g5kdeploy exec all -- uname -r\ng5kdeploy exec vm-[1-2] -o json -- cat /proc/sys/kernel/random/boot_id",
)
@click.argument("nodes", shell_complete=complete.nodes)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@user_option
@click.option("--timeout", default="10m", show_default=True, metavar="TIME", help="Give up after this time.")
@experiment_option
@run_option
@testbed_option
@output_option
def command(
    screen: Screen,
    nodes: str,
    words: tuple[str, ...],
    user: str | None,
    timeout: str,
    experiment: Path,
    run_id: str | None,
    testbed: str | None,
    output: str | None,
) -> ExitCode:
    """One word is a shell command as it stands; several are quoted for the shell."""
    import shlex

    from g5kdeploy.base.deadline import Deadline
    from g5kdeploy.cli.nodes import choose, outcome, split
    from g5kdeploy.cli.times import seconds
    from g5kdeploy.node.many import run_on
    from g5kdeploy.testbed.request import frontend_of, site_of

    line = words[0] if len(words) == 1 else shlex.join(words)
    deadline = Deadline.after(seconds(timeout, "--timeout"), f"`{line}`")
    chosen = choose(split(nodes), experiment, run_id, testbed)
    form = settings.get("output", output)
    logins: dict[str | None, list[str]] = {}
    for name in chosen.names:
        logins.setdefault(chosen.login(name, user), []).append(name)
    results: dict[str, Result | Problem] = {}
    with chosen.reach() as reach:
        for login, names in logins.items():
            results |= run_on(reach, names, login, line, deadline, lambda name: frontend_of(site_of(name)))
    if form == "table":
        show(screen, results)
    else:
        screen.answer(listing("Answers", [as_item(name, result) for name, result in results.items()]), form)
    return outcome(results)


def show(screen: Screen, results: Mapping[str, Result | Problem]) -> None:
    """Equal answers once, under the folded names of those who gave them; what they said on stderr goes there."""
    from g5kdeploy.node import merge

    for group in merge(results):
        how = "killed by a signal" if (group.status or 0) < 0 else f"status {group.status}"
        status = f" ({how})" if group.status else ""
        print(f"--- {group.nodes}{status}", file=screen.out)
        if group.stdout:
            print(clean(group.stdout).rstrip("\n"), file=screen.out, flush=True)
        said = clean(group.problem or group.stderr).rstrip("\n")
        if said:
            print(f"{group.nodes}: {said}", file=screen.err, flush=True)


def as_item(name: str, result: Result | Problem) -> dict[str, Any]:
    """One node's answer as plain values."""
    if isinstance(result, Problem):
        return {"name": name, "status": None, "stdout": "", "stderr": "", "seconds": None, "problem": str(result)}
    return {
        "name": name,
        "status": result.status,
        "stdout": clean(result.stdout),
        "stderr": clean(result.stderr),
        "seconds": round(result.seconds, 3),
        "problem": "",
    }


command.context_settings = {"ignore_unknown_options": False, "allow_interspersed_args": True}
