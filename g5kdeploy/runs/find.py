"""Which run a command goes on with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import to_paste
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.runs.run import Run

FOLDER = "runs"


class NoRun(InvalidUse):
    """There is no run to go on with."""


@dataclass(frozen=True)
class Listing:
    """The runs of a folder, the newest first, and the folders that could not be read with the reason."""

    runs: tuple[Run, ...]
    broken: dict[Path, Problem]


def runs_folder(experiment: Path, wanted: Path | None = None) -> Path:
    """Where the runs of an experiment file are: `runs/` beside it, unless told otherwise."""
    return wanted.absolute() if wanted else experiment.parent / FOLDER


def list_runs(folder: Path) -> Listing:
    """All runs below a folder; folders that are no runs are passed over."""
    runs: list[Run] = []
    broken: dict[Path, Problem] = {}
    for path in sorted(folder.glob("*/run.json"), reverse=True):
        if path.parent.name.startswith("."):
            continue
        try:
            runs.append(Run.open(path.parent))
        except Problem as problem:
            broken[path.parent] = problem
    return Listing(tuple(runs), broken)


def unreleased(folder: Path, experiment: Path) -> list[Run]:
    """The runs of an experiment file (absolute path) that are not over, the newest first."""
    return [run for run in list_runs(folder).runs if not run.released and run.belongs_to(experiment)]


def find(folder: Path, experiment: Path, wanted: str | None = None) -> Run:
    """The run that `wanted` names (an id, its beginning, or a run's folder), or else the one that is not over.

    Raises `NoRun` when there is none, and `InvalidUse` with the list when there are several.
    """
    if wanted is not None:
        return _named(folder, wanted)
    live = [run for run in list_runs(folder).runs if not run.released]
    runs = [run for run in live if run.belongs_to(experiment)]
    if not runs:
        orphans = [f"run {run.id} is of {run.experiment_file.name}, which is gone" for run in live if run.is_orphan()]
        raise NoRun(
            f"{experiment.name} has no run to go on with",
            cause="\n".join(orphans) or f"every run in {folder} is over, or there is none",
            hint=f"{to_paste('build', experiment)} or {to_paste('reserve', experiment)} begins one; --run ID names an old one",
        )
    if len(runs) > 1:
        raise InvalidUse(
            f"{experiment.name} has {len(runs)} runs that are not over",
            cause="\n".join(describe(run) for run in runs),
            hint="say which one with --run ID; g5kdeploy release --run ID ends one",
        )
    return runs[0]


def _named(folder: Path, wanted: str) -> Run:
    if not wanted.strip():
        raise InvalidUse(
            "--run names no run", hint="--run ID, or leave it away: then it is the newest that is not over"
        )
    path = Path(wanted)
    if "/" in wanted and (path / "run.json").is_file():
        return Run.open(path.absolute())
    if (folder / wanted / "run.json").is_file():
        return Run.open(folder / wanted)
    found = sorted(path.parent for path in folder.glob("*/run.json") if path.parent.name.startswith(wanted))
    if len(found) == 1:
        return Run.open(found[0])
    if found:
        names = ", ".join(path.name for path in found)
        raise InvalidUse(f"`{wanted}` is the beginning of several runs", cause=names)
    raise NoRun(f"there is no run `{wanted}`", cause=f"looked in {folder}")


def describe(run: Run) -> str:
    """A run in one line: its id, when it was made, and the last phase it came to."""
    last = max(run.phases().values(), key=lambda record: record.started, default=None)
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.document()["created"]))
    return f"{run.id}  {made}  {run.testbed}  " + (f"{last.phase} {last.state.value}" if last else "nothing done yet")
