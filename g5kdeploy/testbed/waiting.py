"""Waiting for a job's start with few requests: often when it may start any moment, seldom when it is far away."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
_AHEAD = 12  # of them while the predicted start is more than a minute away
_EARLY = 85.0  # seconds: so soon a start that comes early is seen, if it is near
_SLICE = 1.0  # seconds between looks at the doorbell
_HOUR = 3600.0
_RUNNING = 90.0  # a job that runs while others are waited for is looked at so often
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
            return self._ahead(left)
        if left is not None and left > 0:
            return min(left + 1.0, _MARGIN / 3)
        spent = len(self._asked)
        if spent >= _BUDGET:
            return _HOUR / _BUDGET
        if left is not None:
            return _OVERDUE
        return min(_FAR, 10.0 * 1.6 ** (spent - len(_FIRST)))

    def _ahead(self, left: float) -> float:
        """The pause while the start is `left` seconds away: an hour's requests evenly, and two before a near one."""
        # A job that ends at its walltime frees its nodes this much before the site's prediction.
        near = left - _MARGIN + 3.0
        even = _HOUR / _AHEAD
        pause = even if near > 1.5 * even else max(_EARLY, near / 2)
        return near if near < 1.5 * pause else pause


@dataclass
class _Watch:
    """A job that is waited for: as it was seen last, what was said of it, and when to look again (monotonic time)."""

    reservation: Reservation
    pace: Pace
    due: float
    said: tuple[str, int | None]
    notices: set[str]

    @property
    def job(self) -> Job:
        return self.reservation.job


def _watch(reservation: Reservation, deadline: Deadline) -> _Watch:
    job, pace = reservation.job, Pace()
    pause = _RUNNING if job.running else pace.next(deadline.clock.wall(), job)
    return _Watch(reservation, pace, deadline.clock.monotonic() + pause, _key(job), set(job.notices()))


def wait_running(
    api: Api, reservation: Reservation, records: Records, deadline: Deadline, emit: Emitter
) -> Reservation:
    """Wait until the job runs. `JobOver` when it ended instead, `DeadlinePassed` when it did not start in time."""
    return wait_all(api, [reservation], records, deadline, emit)[0]


def wait_all(
    api: Api,
    reservations: Sequence[Reservation],
    records: Records,
    deadline: Deadline,
    emit: Emitter,
    bell: threading.Event | None = None,
) -> list[Reservation]:
    """Wait until all of the jobs run. `JobOver` when one has ended, also one that ran while others were waited for.

    When `bell` is set, by whoever hears of a start, all jobs are looked at without further ado.
    """
    clock = deadline.clock
    watches = [_watch(one, deadline) for one in reservations]
    waiting = next((watch for watch in watches if not watch.job.running), watches[0])
    with emit.step("wait for the start", detail=_words(waiting.job, deadline)) as end:
        for watch in watches:
            _alive(watch.reservation, records, ran=False)
        while waits := [watch for watch in watches if not watch.job.running]:
            next_one = min(watches, key=lambda watch: watch.due)
            if _pause(deadline, next_one.due - clock.monotonic(), waits[0].job, bell):
                for watch in waits[1:]:
                    _look_again(api, watch, records, deadline, emit)
                next_one = waits[0]
            _look_again(api, next_one, records, deadline, emit)
        if len(watches) > 1:  # those that began first may be gone by now
            for watch in watches:
                _look_again(api, watch, records, deadline, emit)
        end.text = "; ".join(_begun(watch.job) for watch in watches)
    for watch in watches:
        wanted = sum(role.count for role in watch.reservation.record.roles)
        if wanted > len(watch.job.nodes):
            found = f"{len(watch.job.nodes)} of {wanted} nodes"
            emit.warn("wait for the start", f"job {watch.job.id} started with {found}: the site lost some")
    return [Reservation(records.known(watch.reservation.record, watch.job), watch.job) for watch in watches]


def _look_again(api: Api, watch: _Watch, records: Records, deadline: Deadline, emit: Emitter) -> None:
    """The job as it is now, and when to look next."""
    job = _look(api, watch.job, records, watch.reservation, deadline, emit)
    for notice in job.notices():  # a site may put them down only after it has answered
        if notice not in watch.notices:
            watch.notices.add(notice)
            emit.note("notice of the site", notice)
    ran = watch.job.running
    watch.reservation = replace(watch.reservation, job=job)
    _alive(watch.reservation, records, ran=ran)
    if job.running:
        watch.due = deadline.clock.monotonic() + _RUNNING
        return
    watch.due = deadline.clock.monotonic() + watch.pace.next(deadline.clock.wall(), job)
    if _key(job) != watch.said:
        watch.said = _key(job)
        emit.note("wait for the start", _words(job, deadline))


def _alive(reservation: Reservation, records: Records, *, ran: bool) -> None:
    job = reservation.job
    if job.over:
        records.released(reservation.record, job.reason())
        when = "while the others were waited for" if ran else "before it ran"
        raise JobOver(f"job {job.id} on {job.site} ended {when}", cause=job.reason())


def _begun(job: Job) -> str:
    text = f"job {job.id} runs on {len(job.nodes)} {'node' if len(job.nodes) == 1 else 'nodes'}"
    return text + (f" until {told(job.ends_at)}" if job.ends_at else "")


def _pause(deadline: Deadline, seconds: float, job: Job, bell: threading.Event | None) -> bool:
    """Sleep, except towards a moment that the deadline will not see; whether the bell rang meanwhile."""
    until = deadline.clock.monotonic() + seconds
    try:
        while (left := until - deadline.clock.monotonic()) > 0:
            if bell is not None and bell.is_set():
                bell.clear()
                return True
            deadline.sleep(left if bell is None else min(left, _SLICE), _words(job, deadline))
        deadline.check(_words(job, deadline))
        return False
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
