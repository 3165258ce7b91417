"""`g5kdeploy lab`: the local stand-in site."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.cli import lab_fault
from g5kdeploy.cli.command import group, subcommand
from g5kdeploy.cli.options import output_option

if TYPE_CHECKING:
    from g5kdeploy.lab.settings import Places
    from g5kdeploy.output.screen import Screen

START_SECONDS = 1800.0
STOP_SECONDS = 60.0


@group(
    "lab",
    "A local stand-in for a Grid'5000 site: REST API, scheduler, deployment, frontend, and virtual machines as nodes.",
    "g5kdeploy lab start\neval $(g5kdeploy lab env)\nssh -F $LAB_SSH_CONFIG flab.grid5000.fr\ng5kdeploy lab stop",
)
def command() -> None:
    """Commands of the lab."""


command.add_command(lab_fault.command)


def _places() -> Places:
    from g5kdeploy.lab.settings import Places

    return Places.default()


def _running() -> dict[str, Any]:
    from g5kdeploy.lab import control

    record = control.status(_places())
    if record is None:
        raise control.NoLab("no lab runs", hint="g5kdeploy lab start")
    return record


@subcommand(
    command,
    "start",
    "Start it and wait until it is ready",
    "Start the lab and wait until its API answers. Nodes are switched on when a job needs them.\n\n"
    "As root it listens on port 22 and puts its names into /etc/hosts until it is stopped.",
    "g5kdeploy lab start --nodes 2\ng5kdeploy lab start --nodes 1 --sites 1",
)
@click.option("--nodes", type=int, default=2, show_default=True, help="Number of nodes of each site.")
@click.option("--memory", type=int, default=1024, show_default=True, metavar="MIB", help="Memory of each node.")
@click.option("--cpus", type=int, default=None, help="Processors of each node [default: 1, or 2 for one node].")
@click.option("--pace", type=float, default=60.0, show_default=True, help="Divides pauses; 1 is the real site.")
@click.option("--reference", default=None, metavar="TAR|URL", help="Real reference data, served beside the lab's site.")
@click.option("--sites", type=int, default=0, show_default=True, help="Further sites.")
@click.option(
    "--max-startups", type=int, default=0, metavar="N", help="Logins at once that the gateway stands [default: any]."
)
@click.option("--jobs", default=None, metavar="FILE", help="Jobs that a site of the reference data has.")
@output_option
def start(screen: Screen, output: str | None, **given: Any) -> None:
    """Start the lab."""
    from g5kdeploy.base.deadline import Deadline
    from g5kdeploy.base.problem import Problem
    from g5kdeploy.lab import control
    from g5kdeploy.lab.settings import Settings

    began = time.monotonic()
    if given["cpus"] is None:
        given["cpus"] = 2 if given["nodes"] == 1 else 1
    if given["reference"] and "://" not in given["reference"]:
        given["reference"] = str(Path(given["reference"]).absolute())  # the lab's process has another folder
    if given["jobs"]:
        given["jobs"] = str(Path(given["jobs"]).absolute())
    deadline = Deadline.after(START_SECONDS, "the start of the lab")
    settings = Settings(**given)
    try:
        settings.check()
    except Problem as problem:
        raise click.UsageError(str(problem), click.get_current_context()) from problem
    record, now = control.start(_places(), settings, deadline, lambda line: screen.say(f"lab: {line}"))
    screen.say(f"lab: ready after {time.monotonic() - began:.1f} s" if now else "lab: it runs already")
    _answer(screen, {"state": "running", **record}, output)


@subcommand(
    command,
    "stop",
    "Stop it and everything that it started",
    "Stop the lab: nodes, servers, network, and its names in /etc/hosts. Jobs, homes and settings stay on the disk.\n\n"
    "It also cleans up after a lab that was killed.",
    "g5kdeploy lab stop",
)
def stop(screen: Screen) -> None:
    """Stop the lab."""
    from g5kdeploy.base.deadline import Deadline
    from g5kdeploy.lab import control

    stopped = control.stop(_places(), Deadline.after(STOP_SECONDS, "the end of the lab"))
    screen.say("the lab is stopped" if stopped else "no lab runs")


@subcommand(
    command,
    "status",
    "Say whether it runs, and where",
    "Show the running lab: URL of its API, addresses, nodes.",
    "g5kdeploy lab status -o json",
)
@output_option
def status(screen: Screen, output: str | None) -> None:
    """Show the lab."""
    from g5kdeploy.lab import control

    record = control.status(_places())
    _answer(screen, {"state": "running", **record} if record else {"state": "stopped"}, output)


@subcommand(
    command,
    "env",
    "Print what a foreign client needs",
    "Print the variables of the running lab for a shell. LAB_HOME is a folder with .python-grid5000.yaml and .ssh that "
    "any client of Grid'5000 can be given as its HOME.",
    "eval $(g5kdeploy lab env)\nHOME=$LAB_HOME my-grid5000-program",
)
def env(screen: Screen) -> None:
    """Print variables."""
    from g5kdeploy.lab import control

    sys.stdout.write(control.exports(_running()))


@subcommand(
    command,
    "console",
    "Show a node's console",
    "Show what a node of the lab said on its console; with --follow also what comes later.",
    "g5kdeploy lab console vm-1 --follow",
)
@click.argument("node")
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
def console(screen: Screen, node: str, follow: bool) -> None:
    """Show a console."""
    from g5kdeploy.base.problem import Problem
    from g5kdeploy.base.text import clean

    path = _places().nodes / node.partition(".")[0] / "console.log"
    if not path.resolve().is_relative_to(_places().nodes.resolve()) or not path.parent.is_dir():
        raise Problem(f"the lab has no node {node}, or it was never on", hint="g5kdeploy lab status")
    at = 0
    while True:
        data = b""
        if path.exists():
            with path.open("rb") as file:
                file.seek(at)
                data = file.read()
        at += len(data)
        sys.stdout.write(clean(data.decode(errors="replace")))
        sys.stdout.flush()
        if not follow:
            return
        time.sleep(0.3)


def _answer(screen: Screen, record: dict[str, Any], output: str | None) -> None:
    from g5kdeploy.output.documents import single

    form = output or "table"
    if form in ("table", "wide") and "nodes" in record:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["started_at"]))
        record = {**record, "nodes": ", ".join(record["nodes"]), "started_at": began}
    screen.answer(single("LabStatus", **record), form)
