"""`g5kdeploy cp SOURCE... TARGET`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import clean, human_bytes
from g5kdeploy.cli import settings
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import experiment_option, output_option, run_option, testbed_option, user_option
from g5kdeploy.events.failure import ExitCode, InvalidUse
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.node import Remote, Result
    from g5kdeploy.node.copying import Copied

_REMOTE = re.compile(r"^((?:[^/:\[]|\[[^\]]*\])+):(.*)$", re.DOTALL)  # NODES:PATH; ./a:b is a local file
Answers = Mapping[str, "tuple[Copied, float] | Problem"]


@make(
    "cp",
    "Copy files and folders to many nodes at once (`cp FILE... NODES:PATH`) or from them (`cp NODES:PATH... TARGET`). "
    "NODES: names, roles, folded sets, or `all`, with commas between them. What comes from several nodes has a folder "
    "of each node's name in TARGET. A file is there whole or not at all. Exit code 0 when all was copied, 5 when on "
    "some nodes, 1 when on none.",
    "g5kdeploy cp data.csv input/ all:/srv/\n"
    "g5kdeploy cp 'vm-[1-2]:/var/log/*.log' logs/\n"
    "g5kdeploy cp server:/etc/os-release .",
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target")
@user_option
@click.option("--timeout", default="1h", show_default=True, metavar="TIME", help="Give up after this time.")
@experiment_option
@run_option
@testbed_option
@output_option
def command(
    screen: Screen,
    sources: tuple[str, ...],
    target: str,
    user: str | None,
    timeout: str,
    experiment: Path,
    run_id: str | None,
    testbed: str | None,
    output: str | None,
) -> ExitCode:
    """All nodes at once, as many as `fan_out` takes; the archive's list is made once."""
    from g5kdeploy.base.deadline import Deadline
    from g5kdeploy.cli.nodes import choose, outcome, split
    from g5kdeploy.cli.times import seconds
    from g5kdeploy.node import fan_out

    nodes, paths, outward = directions(sources, target)
    deadline = Deadline.after(seconds(timeout, "--timeout"), "the copy")
    if outward:
        work = _outward([Path(source) for source in sources], paths[0], deadline)
    chosen = choose(split(nodes), experiment, run_id, testbed)
    if not outward:
        work = _homeward(paths, target, len(chosen.names) > 1, deadline)
    with chosen.reach() as reach:

        def timed(name: str) -> tuple[Copied, float]:
            began = time.monotonic()
            return work(reach.remote(name, chosen.login(name, user))), time.monotonic() - began

        answers = fan_out(chosen.names, timed)
    tell(screen, answers, settings.get("output", output))
    return outcome(answers)


def directions(sources: Sequence[str], target: str) -> tuple[str, list[str], bool]:
    """The nodes, the paths on them, and whether it goes to them. Raises `InvalidUse` when one side alone must be theirs."""
    there, here = _REMOTE.match(target), [_REMOTE.match(source) for source in sources]
    if there and not any(here):
        return there[1], [there[2]], True
    remote = [match for match in here if match]
    if there or len(remote) != len(here):
        raise InvalidUse(
            "one side of a copy is on nodes, the other one here",
            cause=f"{' '.join(sources)} → {target}",
            hint="g5kdeploy cp FILE NODES:PATH, or g5kdeploy cp NODES:PATH FOLDER; a local a:b is written ./a:b",
        )
    if len({match[1] for match in remote}) > 1:
        raise InvalidUse("the sources are on different nodes", hint="copy from one set of nodes at a time")
    return remote[0][1], [match[2] for match in remote], False


def _outward(sources: Sequence[Path], target: str, deadline: Any) -> Callable[[Remote], Copied]:
    from g5kdeploy.node.copying import Parcel, send

    parcel = Parcel(sources)
    return lambda remote: send(remote, parcel, target, deadline)


def _homeward(paths: Sequence[str], target: str, many: bool, deadline: Any) -> Callable[[Remote], Copied]:
    from g5kdeploy.node.copying import bring

    into = many or len(paths) > 1 or target.endswith("/")
    folder = Path(target)
    return lambda remote: bring(remote, paths, folder / remote.name if many else folder, deadline, into=into)


def tell(screen: Screen, answers: Answers, form: str) -> None:
    """A verdict for each node; in a table, what went wrong is told once for all nodes that it went wrong on."""
    from g5kdeploy.node import merge

    items = [_item(name, answer) for name, answer in answers.items()]
    if form != "table":
        screen.answer(listing("Copies", items), form)
        return
    rows = [{**item, "bytes": human_bytes(item["bytes"])} for item in items]
    screen.answer(listing("Copies", rows), form, ("name", "verdict", "files", "bytes", "seconds"))
    problems: dict[str, Result | Problem] = {name: one for name, one in answers.items() if isinstance(one, Problem)}
    for group in merge(problems):
        print(f"{group.nodes}: {clean(group.problem).rstrip()}", file=screen.err, flush=True)


def _item(name: str, answer: tuple[Copied, float] | Problem) -> dict[str, Any]:
    if isinstance(answer, Problem):
        return {"name": name, "verdict": "failed", "files": 0, "bytes": 0, "seconds": None, "problem": str(answer)}
    copied, seconds = answer
    return {
        "name": name, "verdict": "copied", "files": copied.files, "bytes": copied.bytes,
        "seconds": round(seconds, 2), "problem": "",
    }  # fmt: skip
