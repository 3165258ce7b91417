"""`g5kdeploy logs NODE`."""

from __future__ import annotations

import shlex
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import click

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli import complete
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import experiment_option, run_option, testbed_option
from g5kdeploy.events.failure import ExitCode, Failure, InvalidUse
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.cli.nodes import Chosen

ONCE, FOREVER = 300.0, 10 * 365 * 86400.0  # seconds


@make(
    "logs",
    "Show the journal of NODE (a name or a role of the run); of a run that is over, the journal that was collected.",
    "g5kdeploy logs exporter -u g5kdeploy-exporter -n 50\ng5kdeploy logs vm-1 -f",
)
@click.argument("node", shell_complete=complete.nodes)
@click.option("-u", "--unit", default=None, help="Only this systemd unit.")
@click.option("-n", "--lines", type=click.IntRange(min=1), default=None, help="Only that many of the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until interrupted.")
@experiment_option
@run_option
@testbed_option
def command(
    screen: Screen,
    node: str,
    unit: str | None,
    lines: int | None,
    follow: bool,
    experiment: Path,
    run_id: str | None,
    testbed: str | None,
) -> ExitCode:
    """The node's own journalctl does the choosing."""
    from g5kdeploy.cli.nodes import choose

    chosen = choose([node], experiment, run_id, testbed)
    name = one(chosen, node)
    if chosen.run is not None and chosen.run.released:
        return _show_journal(screen, chosen, name, unit, lines)
    call = ["journalctl", "--no-pager", "--output=short-iso", "--boot"]
    call += [f"--unit={unit}"] if unit else []
    call += [f"--lines={lines}"] if lines else []
    call += ["--follow"] if follow else []
    deadline = Deadline.after(FOREVER if follow else ONCE, f"the journal of {name}")
    with chosen.reach() as reach:
        reach.remote(name).run(shlex.join(call), deadline, out=lambda line: print(line, file=screen.out, flush=True))
    return ExitCode.DONE


def one(chosen: Chosen, word: str) -> str:
    """The only node that was chosen."""
    if len(chosen.names) != 1:
        raise InvalidUse(f"`{word}` means {len(chosen.names)} nodes", cause=", ".join(chosen.names), hint="name one")
    return chosen.names[0]


def _show_journal(screen: Screen, chosen: Chosen, name: str, unit: str | None, lines: int | None) -> ExitCode:
    from g5kdeploy.runs import journal

    for path in collected(screen, chosen, name, "journal"):
        found = journal.lines(journal.read(path), unit)
        for line in deque(found, lines) if lines else found:
            print(line, file=screen.out)
    return ExitCode.DONE


def collected(screen: Screen, chosen: Chosen, name: str, kind: str) -> list[Path]:
    """What a run that is over has brought back of a node: files whose names begin with `kind`."""
    assert chosen.run is not None
    folder = chosen.run.folder / "nodes" / name
    files = sorted(path for path in folder.glob(f"{kind}*") if path.is_file())
    if not files:
        raise Failure(f"no {kind} of {name} was collected", cause=f"run {chosen.run.id} is over, {folder} has none")
    screen.say(f"(run {chosen.run.id} is over: from {folder})")
    return files
