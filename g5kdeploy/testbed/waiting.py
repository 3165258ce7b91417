"""Waiting for a job's start with few requests: often when it may start any moment, seldom when it is far away."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.base.text import human_seconds
from g5kdeploy.events.event import Emitter
from g5kdeploy.testbed import lookup
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.lookup import Reservation
from g5kdeploy.testbed.problems import ApiProblem, JobOver, NotThere
from g5kdeploy.testbed.records import Records
from g5kdeploy.testbed.request import told

_FIRST = (1.0, 1.0, 2.0, 3.0, 5.0)  # an idle site starts a job in 0.6 to 10.6 s
_FAR = 400.0
_OVERDUE = 8.0
_MARGIN = 61.0  # seconds that OAR keeps between two jobs when it predicts, and drops when it comes to it
_OUTAGE = 30.0
_BUDGET = 20  # requests in any hour of waiting
_HOUR = 3600.0
_STARTING = frozenset({"tolaunch", "launching"})


@dataclass
class Pace:
    """When to ask again, in seconds, from what was answered last; `now` is unix time.

    At most 20 requests an hour while predictions hold; a start at the predicted time is seen within 10 s.
    """

    _asked: deque[float] = field(default_factory=deque)
    _first: deque[float] = field(default_factory=lambda: deque(_FIRST))
    _starting: int = 0

    def next(self, now: float, job: Job) -> float:
        if job.state in _STARTING:
            self._starting += 1
            return min(5.0, 1.0 + self._starting / 2)
        self._asked.append(now)
        while self._asked[0] <= now - _HOUR:
            self._asked.popleft()
        left = job.scheduled_at - now if job.scheduled_at else None
        if left is not None and left > sum(_FIRST):
            self._first.clear()  # nothing will happen before
        if self._first:
            return self._first.popleft()
        if left is not None and left > _MARGIN + _OVERDUE:
            # A job that ends at its walltime frees its nodes this much before the site's prediction.
            return min(left - _MARGIN + 3.0, _FAR)
        if left is not None and left > 0:
            return min(left + 1.0, _MARGIN / 3)
        spent = len(self._asked)
        if spent >= _BUDGET:
            return _HOUR / _BUDGET
        if left is not None:
            return _OVERDUE
        return min(_FAR, 10.0 * 1.6 ** (spent - len(_FIRST)))


def wait_running(
    api: Api, reservation: Reservation, records: Records, deadline: Deadline, emit: Emitter
) -> Reservation:
    """Wait until the job runs. `JobOver` when it ended instead, `DeadlinePassed` when it did not start in time."""
    job = reservation.job
    with emit.step("wait for the start", detail=_words(job, deadline)) as end:
        pace = Pace()
        shown = _key(job)
        while not job.running:
            if job.over:
                records.released(reservation.record, job.reason())
                raise JobOver(f"job {job.id} on {job.site} ended before it ran", cause=job.reason())
            _pause(deadline, pace.next(deadline.clock.wall(), job), job)
            job = _look(api, job, records, reservation, deadline, emit)
            if _key(job) != shown and not job.running and not job.over:
                shown = _key(job)
                emit.note("wait for the start", _words(job, deadline))
        end.text = f"job {job.id} runs on {len(job.nodes)} {'node' if len(job.nodes) == 1 else 'nodes'}"
        if job.ends_at:
            end.text += f" until {told(job.ends_at)}"
    if (wanted := sum(role.count for role in reservation.record.roles)) > len(job.nodes):
        emit.warn("wait for the start", f"the job started with {len(job.nodes)} of {wanted} nodes: the site lost some")
    return Reservation(records.known(reservation.record, job.id), job)


def _pause(deadline: Deadline, seconds: float, job: Job) -> None:
    """Sleep, except towards a moment that the deadline will not see."""
    try:
        deadline.sleep(seconds, _words(job, deadline))
        deadline.check(_words(job, deadline))
    except DeadlinePassed as error:
        error.hint = "the job stays in the queue; g5kdeploy release lets it go"
        raise


def _look(api: Api, job: Job, records: Records, reservation: Reservation, deadline: Deadline, emit: Emitter) -> Job:
    """The job as it is now; an API in trouble is waited for as long as the deadline allows."""
    while True:
        try:
            return lookup.job(api, job.site, job.id, deadline)
        except NotThere as gone:
            records.released(reservation.record, "the site no longer knows the job")
            raise JobOver(f"job {job.id} on {job.site} is gone", cause="the site no longer knows it") from gone
        except ApiProblem as problem:
            if not problem.passing or deadline.remaining() <= _OUTAGE:
                raise
            emit.warn("wait for the start", f"{problem}; the job stays in the queue meanwhile")
            deadline.sleep(_OUTAGE, str(problem))


def _key(job: Job) -> tuple[str, int | None]:
    return job.state, job.scheduled_at


def _words(job: Job, deadline: Deadline) -> str:
    words = f"job {job.id} is {job.state_in_words()}"
    if job.scheduled_at and not job.running:
        left = job.scheduled_at - deadline.clock.wall()
        words += f"; predicted start {told(job.scheduled_at)}"
        words += f", in {human_seconds(left)}" if left >= 1 else ""
    return words
