"""The phases in their order, and how a run goes through them: skipping what is done, releasing whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g5kdeploy.base import files, folders
from g5kdeploy.base.problem import Problem
from g5kdeploy.closure.build import inputs
from g5kdeploy.events.event import Emitter, State
from g5kdeploy.events.failure import ExitCode, InvalidUse
from g5kdeploy.experiment.model import Experiment
from g5kdeploy.node import Stage
from g5kdeploy.runs import Run, find, key_of, runs_folder, unreleased
from g5kdeploy.runs.run import ORDER, PhaseState
from g5kdeploy.testbed.places import Testbed
from g5kdeploy.testbed.places import find as find_testbed
from g5kdeploy.testbed.problems import JobOver
from g5kdeploy.workflow import building, checking, deploying, measuring, reporting, reserving
from g5kdeploy.workflow.session import Session


@dataclass(frozen=True)
class Phase:
    """A phase: what it does, the inputs whose hash says whether it was done, and whether it may be skipped by it."""

    name: str
    work: Callable[[Session], dict[str, Any]]
    inputs: Callable[[Session], Any]
    skippable: bool = True


def _job(session: Session) -> Any:
    numbers = [job["id"] for job in session.jobs()]
    return numbers if len(numbers) > 1 else next(iter(numbers), None)


def _closures(session: Session) -> Any:
    manifest = session.run.manifest_file
    return {n: r.toplevel for n, r in session.manifest.roles.items()} if manifest.exists() else None


def _booted(session: Session) -> Any:
    """What the nodes run: closures and kernel parameters."""
    params = session.experiment.kernel.params
    return [_closures(session), params] if params else _closures(session)


def _deployed(session: Session) -> list[Any]:
    """What the nodes were deployed for; with nodes that were lost since, it is to be done again."""
    asked = [
        _job(session),
        _closures(session),
        building.environment_key(session),
        session.experiment.document()["kernel"],
    ]
    lost = [node for node, known in session.run.nodes().items() if known["stage"] == Stage.LOST.value]
    return [*asked, lost] if lost else asked


PHASES = (
    Phase(
        "build",
        building.build,
        lambda s: [
            inputs(s.experiment.composition, s.experiment.flavour, sorted(s.experiment.roles)),
            s.experiment.additions,
            s.experiment.kernel.params,
        ],
    ),
    Phase("vmtest", checking.vmtest, lambda s: [_closures(s), checking.script_hash(s), checking.counts(s)]),
    Phase(
        "push",
        building.push,
        lambda s: [
            s.testbed.name,
            building.pushed_to(s),
            s.experiment.cache.folder,
            _closures(s),
            building.environment_key(s),
        ],
    ),
    Phase("reserve", reserving.reserve, lambda s: s.experiment.document()["roles"]),
    Phase("deploy", deploying.deploy, _deployed),
    Phase("check", checking.check, lambda s: [_job(s), _booted(s), checking.script_hash(s)]),
    Phase("bench", measuring.bench, lambda s: [_job(s), _booted(s), s.experiment.document().get("benchmark")]),
    Phase("collect", measuring.collect_all, lambda s: [_job(s)], skippable=False),
    Phase("report", reporting.report, lambda s: None, skippable=False),
    Phase("release", reserving.release, lambda s: None, skippable=False),
)
NAMES = tuple(phase.name for phase in PHASES)
assert tuple(name for name in ORDER if name in NAMES) == NAMES
PARTS = (
    Phase("boot", deploying.boot_closures, lambda s: None, skippable=False),
    Phase("exporter", deploying.exporters, lambda s: None, skippable=False),
)
"""Parts of `deploy` that are commands too."""
BY_NAME = {phase.name: phase for phase in (*PHASES, *PARTS)}
BEGIN_SECONDS = 30.0
AFTER_FAILURE = ("collect", "report", "release")
"""What is done all the same when a phase before them failed."""


def chosen(phases: Sequence[str] | None = None, first: str | None = None, last: str | None = None) -> list[str]:
    """The names of the phases to do (None: all), in their order; raises `InvalidUse` for a name that is none."""
    unknown = [name for name in (*(phases or ()), first, last) if name is not None and name not in NAMES]
    if unknown:
        raise InvalidUse(f"there is no phase `{', '.join(unknown)}`", hint=f"the phases are: {', '.join(NAMES)}")
    begin = 0 if first is None else NAMES.index(first)
    end = len(NAMES) - 1 if last is None else NAMES.index(last)
    if begin > end:
        raise InvalidUse(f"{first} comes after {last}: nothing is left to do")
    return [name for name in NAMES[begin : end + 1] if phases is None or name in phases]


def site_of(experiment: Experiment, testbed: Testbed) -> str:
    """The site: the experiment's or its first role's, or the lab's only one; never guessed elsewhere."""
    if site := experiment.site or next((role.site for role in experiment.roles.values() if role.site), ""):
        return site
    if testbed.name == "lab":
        return "lab"
    raise InvalidUse(f"{experiment.file.name} says no site", hint="--site rennes, or `site:` in the file")


def testbed_of(experiment: Experiment) -> Testbed:
    """The testbed that was named somewhere; nothing falls through to the real one."""
    if experiment.testbed is None:
        raise InvalidUse(
            "no testbed was named",
            hint="--testbed lab or --testbed grid5000; G5KDEPLOY_TESTBED, or `testbed:` in the file",
        )
    return find_testbed(experiment.testbed)


def open_run(
    experiment: Experiment,
    emit: Emitter,
    wanted: str | None = None,
    runs: Path | None = None,
    *,
    new: bool = False,
    phases: Sequence[str] = (),
) -> Session:
    """The run to work on: the one named, or the newest that is not over; with `new`, one is made when there is none.

    A run whose job has ended meanwhile is closed, and a new one is made in its place; but not when all of `phases` are
    done and it died while it let go of the nodes: then only its end is missing.
    """
    folder = runs_folder(experiment.file, runs)
    if wanted is None and new and not unreleased(folder, experiment.file):
        return _fresh(experiment, testbed_of(experiment), emit, folder)
    run = find(folder, experiment.file, wanted)
    testbed = testbed_of(experiment) if experiment.testbed else find_testbed(run.testbed)  # named when it began
    session = Session(experiment, run, testbed, emit)
    if session.run.testbed != testbed.name:
        raise InvalidUse(
            f"run {session.run.id} is on testbed {session.run.testbed}, not {testbed.name}",
            hint=f"--testbed {session.run.testbed}, or end it: g5kdeploy release --run {session.run.id}",
        )
    if new and wanted is None and reserving.is_over(session):
        if _came_to_release(session.run, phases):
            session.ending = True
            return _sinking(session)
        with session, session.run.lock():  # whoever works on it sees for himself that its job ended
            emit.warn("run", f"run {session.run.id} is closed: its job ended meanwhile; beginning a new one")
            reserving.release(session)
        return _fresh(experiment, testbed, emit, folder)
    return _sinking(session)


def _came_to_release(run: Run, phases: Sequence[str]) -> bool:
    """Whether all of the phases were done when it began to let go of its nodes."""
    records = run.phases()
    over = (PhaseState.DONE, PhaseState.PARTLY)
    return "release" in phases and all(
        name in records and (name == "release" or records[name].state in over) for name in phases
    )


def _fresh(experiment: Experiment, testbed: Testbed, emit: Emitter, folder: Path) -> Session:
    """A new run; of several commands at once the first begins it, and the others find it."""
    site = site_of(experiment, testbed)
    lock = folders.state() / "locks" / key_of(str(folder))
    with files.lock(lock, f"the folder {folder}", BEGIN_SECONDS):
        if begun := unreleased(folder, experiment.file):
            return open_run(experiment, emit, begun[0].id, folder)
        run = Run.create(folder, experiment, testbed.name, site)
    return _sinking(Session(experiment, run, testbed, emit))


def _sinking(session: Session) -> Session:
    session.emit.sinks.append(session.run.sink)
    session.emit.run = session.run.id
    return session


def do(
    session: Session,
    name: str,
    *,
    again: bool = False,
    work: Callable[[Session], dict[str, Any]] | None = None,
) -> ExitCode:
    """Do one phase, or say that it was done with these very inputs; the exit code: done, or partly.

    `work` stands in for the phase's own function, where a command was told more than the experiment says.
    """
    phase = BY_NAME[name]
    session.in_phase(name)
    session.again, session.unfinished = again, False
    key = key_of(phase.inputs(session))
    if phase.skippable and not again and session.run.done(name, key):
        session.emit.emit("", name, State.SKIPPED, "was done with the same inputs")
        if name == "reserve":
            reserving.tell_shorter(session)
        return ExitCode.DONE
    lost = _lost(session)
    try:
        with session.run.phase(name, key) as record, session.emit.step(name) as step:
            record.result = (work or phase.work)(session)
            record.key = key_of(phase.inputs(session))
            step.text = record.detail = record.result.pop("detail", "")
            if _lost(session) > lost or session.unfinished:
                record.state = PhaseState.PARTLY
    except OSError:
        if name == "release":  # a full disk: nodes are not held for want of a place to write that they are not
            reserving.let_go(session)
        raise
    return ExitCode.DONE if name == "release" else _outcome(session)  # what is let go of is, however many it were


def _outcome(session: Session) -> ExitCode:
    return ExitCode.PARTLY if _lost(session) else ExitCode.DONE


def _lost(session: Session) -> int:
    """How many nodes are lost, those counted that the reservation did not bring."""
    nodes = session.run.nodes()
    never = max(0, session.experiment.count - len(nodes)) if nodes else 0
    return never + sum(bool(node["stage"] == Stage.LOST.value) for node in nodes.values())


def run(
    session: Session,
    phases: Sequence[str],
    *,
    keep: bool = False,
    works: Mapping[str, Callable[[Session], dict[str, Any]]] | None = None,
) -> ExitCode:
    """Do phases in order. When one fails, what was measured is still brought back and the nodes are let go.

    With `keep` they are not. The failure is raised when all that is done. `works` are by phase what `do` takes.
    """
    todo = [name for name in phases if not (keep and name == "release")]
    if session.ending:
        todo = ["release"]
    code = ExitCode.DONE
    for index, name in enumerate(todo):
        try:
            code = max(code, do(session, name, work=(works or {}).get(name)))
        except BaseException as error:
            _after(session, name, todo[index + 1 :], error, keep=keep)
            raise
    return max(code, _outcome(session))


def _worth_asking(error: BaseException) -> bool:
    """Whether the nodes still have something to say: not when their job is over, nor when the user waits to leave."""
    return isinstance(error, Problem) and not isinstance(error, JobOver)


def _after(session: Session, failed: str, rest: Sequence[str], error: BaseException, *, keep: bool) -> None:
    """After a failure, or an interrupt: keep what there is, release what is held; its own problems are only told."""
    todo = [name for name in AFTER_FAILURE if name in rest or name == failed == "release"]
    if failed != "bench" or not _worth_asking(error):
        todo = [name for name in todo if name != "collect"]
    if failed in ("bench", "collect") and "collect" not in todo:
        with contextlib.suppress(Problem, OSError):
            measuring.keep_what_is_here(session)
    for name in todo:
        try:
            do(session, name)
        except BaseException as problem:
            if name == "release":
                session.emit.warn(name, f"the nodes may still be held; try: g5kdeploy release --run {session.run.id}")
            if not isinstance(problem, Exception):
                raise
            session.emit.warn(name, str(problem) or type(problem).__name__)
    if keep and session.run.document()["job"]:
        session.emit.note(
            "run", f"kept: run {session.run.id}; go on with the same command, end it with g5kdeploy release"
        )
