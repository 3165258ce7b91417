"""What the phases of one run share: its folder, the doors to the testbed and its nodes, and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar

from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import to_paste
from g5kdeploy.closure.manifest import Manifest
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import ExitCode, Failure, InvalidUse, exit_code, narrowest
from g5kdeploy.experiment.model import Experiment
from g5kdeploy.node import Reach, Remote, Stage, fan_out
from g5kdeploy.runs import Run
from g5kdeploy.testbed import reservations
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.places import Testbed, connect
from g5kdeploy.testbed.problems import JobOver
from g5kdeploy.testbed.records import Records
from g5kdeploy.testbed.request import frontend_of

T = TypeVar("T")


class Session:
    """One run being worked on. Use it as a context manager: connections are closed at its end."""

    def __init__(
        self, experiment: Experiment, run: Run, testbed: Testbed, emit: Emitter, clock: Clock = SYSTEM
    ) -> None:
        self.experiment = experiment
        self.run = run
        self.testbed = testbed
        self.emit = emit
        self.clock = clock
        self.ending = False  # whether nothing is left of the run but to let go of its nodes
        self.unfinished = False  # whether the phase under way was told to leave something for its next time
        self.again = False  # whether the phase under way was asked for once more, although it was done
        self.records = Records(testbed.name)
        self._api: Api | None = None
        self._reach: Reach | None = None
        self._manifest: Manifest | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back every connection."""
        if self._reach is not None:
            self._reach.close()
        if self._api is not None:
            self._api.close()
        self._reach = self._api = None

    def in_phase(self, phase: str) -> None:
        """From here on events carry this phase's name."""
        self.emit = self.emit.in_phase(phase)
        if self._api is not None:
            self._api.emit = self.emit

    # Doors, opened when first used

    @property
    def api(self) -> Api:
        """The testbed's REST API."""
        if self._api is None:
            self._api = connect(self.testbed, self.emit)
        return self._api

    @property
    def reach(self) -> Reach:
        """The way to the testbed's machines; the nodes' host keys are pinned beside its SSH settings."""
        if self._reach is None:
            self._reach = Reach(self.testbed.home, self.api.credentials.username)
            for name, address in self.run.addresses().items():
                self._reach.move(name, address)
        return self._reach

    @property
    def frontend(self) -> Remote:
        """The site's frontend, as the user."""
        return self.frontend_of(self.run.site)

    def frontend_of(self, site: str) -> Remote:
        """A site's frontend, as the user."""
        return self.reach.remote(frontend_of(site), None)

    def web_of(self, site: str) -> str:
        """URL of the users' public folders on a site, as the nodes of all sites see it."""
        return f"http://public.{site}.grid5000.fr"

    @property
    def manifest(self) -> Manifest:
        """What was built for this run."""
        if self._manifest is None:
            if not self.run.manifest_file.exists():
                raise InvalidUse(f"run {self.run.id} has no closures yet", hint=to_paste("build", self.experiment.file))
            self._manifest = Manifest.load(self.run.manifest_file)
        return self._manifest

    def built(self, manifest: Manifest) -> None:
        """Keep what was built with the run."""
        manifest.save(self.run.manifest_file)
        self._manifest = manifest

    def jobs(self) -> list[dict[str, Any]]:
        """The run's jobs, one a site, as run.json has them; none before they were reserved."""
        document = self.run.document()
        return document.get("jobs") or ([document["job"]] if document["job"] else [])

    # Time

    def deadline(self, seconds: float, what: str) -> Deadline:
        """`seconds` from now, but not past the end of the walltime once jobs run."""
        ends = [self._end(job) for job in self.jobs() if job.get("ends_at")]
        if ends:
            left = max(0.0, min(ends) - self.clock.wall())
            if left < seconds:
                return Deadline.after(left, f"{what}, before the walltime ends", self.clock)
        return Deadline.after(seconds, what, self.clock)

    def _end(self, job: dict[str, Any]) -> float:
        """The end of a job's walltime; another command may have had it extended, and then its record knows."""
        record = self.records.get(job["record"])
        return float(max(job["ends_at"], (record.ends_at or 0) if record else 0))

    # Nodes

    def nodes(self, *, role: str | None = None, at_least: Stage | None = None) -> dict[str, str]:
        """Full name → role of the run's nodes that are not lost, those of one role, those that came so far."""
        return {
            name: node["role"]
            for name, node in sorted(self.run.nodes().items())
            if role in (None, node["role"]) and Stage(node["stage"]).reached(at_least or Stage.RESERVED)
        }

    def instrumented(self) -> dict[str, str]:
        """The nodes whose role has an exporter."""
        return {n: r for n, r in self.nodes(at_least=Stage.BOOTED).items() if self.manifest.roles[r].programs}

    def on_nodes(self, names: Iterable[str], work: Callable[[str], T]) -> dict[str, T]:
        """Do the work on all nodes at once; nodes that fail are lost, and the rest goes on while there are enough.

        Raises `JobOver` when it was the job that ended, and otherwise `lost()`'s failure.
        """
        answers = fan_out(names, work)
        failed = {name: answer for name, answer in answers.items() if isinstance(answer, Problem)}
        if failed:
            self.check_job(next(iter(failed.values())))
            self.lose(failed)
        return {name: answer for name, answer in answers.items() if not isinstance(answer, Problem)}

    def lose(self, failed: dict[str, Problem]) -> None:
        """Give up on nodes; raises when a role has not enough of them left."""
        self.run.set_nodes(
            {name: {"stage": Stage.LOST.value, "lost_because": str(problem)} for name, problem in failed.items()}
        )
        for name, problem in failed.items():
            self.emit.warn("lost", str(problem), name)
        for name, wanted in self.experiment.roles.items():
            left = len(self.nodes(role=name))
            needed = wanted.min or wanted.nodes
            if left < needed:
                raise _too_few(name, left, needed, failed)
        self.run.warn(f"{len(failed)} of {self.experiment.count} nodes were lost: {', '.join(failed)}")

    def check_job(self, cause: BaseException | None = None) -> None:
        """Raise `JobOver` when a job has ended: that explains whatever went wrong with its nodes."""
        for told in self.jobs():
            self._check(told, cause)

    def _check(self, told: dict[str, Any], cause: BaseException | None) -> None:
        record = self.records.get(told["record"])
        if record is None:
            return
        try:
            found = reservations.resume(
                self.api, record, self.records, Deadline.after(20, "the job's state", self.clock)
            )
        except Problem:
            return  # what went wrong stays unexplained; it is told as it is
        if found is None:
            raise JobOver(f"job {told['id']} is gone", cause="the site knows it no more") from cause
        if found.job.over:
            raise JobOver(
                f"job {found.job.id} ended while its nodes were needed",
                cause=found.job.reason(),
                walltime="walltime" in found.job.reason().lower(),
            ) from cause


def _too_few(role: str, left: int, needed: int, failed: dict[str, Problem]) -> Failure:
    """All the reasons, under the exit code that tells most."""
    first = next(iter(failed.values()))
    error = Failure(
        f"role {role} has {left} of the {needed} nodes that it needs",
        cause="\n".join(f"{name}: {problem}" for name, problem in failed.items()),
        hint=first.hint,
        log=first.log,
    )
    error.code = narrowest({exit_code(problem) for problem in failed.values()} or {ExitCode.FAILED})
    return error
