"""Asking for more walltime, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import human_seconds
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import InvalidUse, NoResources
from g5kdeploy.testbed import lookup
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.lookup import Reservation
from g5kdeploy.testbed.problems import ApiProblem, Unclear
from g5kdeploy.testbed.request import told, walltime_text

HANDLED = 70.0  # seconds: an idle site's scheduler looks at such requests once a minute
_POLLS = (1.0, 2.0, 3.0, 5.0)  # seconds between looks, the last one over and over


@dataclass(frozen=True)
class Extension:
    """What came of asking for more walltime: the job as it is now, seconds asked for and gained, and it all in words."""

    reservation: Reservation
    asked: int
    gained: int
    words: str


def extend(
    api: Api, reservation: Reservation, seconds: int, deadline: Deadline, emit: Emitter, wait: float = HANDLED
) -> Extension:
    """Ask for `seconds` more walltime, and wait at most `wait` seconds for the scheduler to grant it.

    The new total is sent, not the difference, so that a request whose answer is lost may be sent again. Raises
    `NoResources` when the site refuses, `InvalidUse` when the job does not run.
    """
    if seconds < 1:
        raise InvalidUse("an extension must be at least one second")
    site, number = reservation.site, reservation.job.id
    path = f"/sites/{site}/jobs/{number}/walltime"
    before = lookup.job(api, site, number, deadline)
    if not before.running:
        raise InvalidUse(
            f"job {number} on {site} is {before.state_in_words()}", cause="only a running job can be extended"
        )
    wanted = before.walltime + seconds
    with emit.step("extend", detail=f"job {number} by {human_seconds(seconds)}") as end:
        _ask(api, path, wanted, deadline)
        patience = deadline.within(wait, "the site's answer to the extension")
        polls = iter(_POLLS)
        while True:
            now = lookup.job(api, site, number, deadline)
            change: dict[str, Any] = dict(api.get(path, deadline)) if not now.over else {}
            pause = next(polls, _POLLS[-1])
            if now.over or now.walltime >= wanted or patience.remaining() <= pause:
                break
            patience.sleep(pause)
        gained = now.walltime - before.walltime
        end.text = _outcome(now, seconds, gained, str(change.get("pending", "0:0:0")))
    return Extension(Reservation(reservation.record, now), seconds, gained, end.text)


def _outcome(job: Job, asked: int, gained: int, pending: str) -> str:
    """What came of it, in words."""
    until = f"; it ends at {told(job.ends_at)}" if job.ends_at else ""
    if job.over:
        return f"job {job.id} ended meanwhile: {job.reason()}"
    if gained >= asked:
        return f"granted: {human_seconds(gained)}{until}"
    if gained > 0:
        return f"granted in part: {human_seconds(gained)}, {pending} still pending{until}"
    return f"pending: the site grants it when nobody else is delayed by it{until}"


def _ask(api: Api, path: str, wanted: int, deadline: Deadline) -> None:
    body = {"walltime": walltime_text(wanted)}
    for last in (False, True):
        try:
            api.post(path, body, deadline)
            return
        except Unclear:
            if last:
                raise
        except ApiProblem as problem:
            if problem.status in (400, 404, 405):
                raise NoResources("the site refuses the extension", cause=problem.cause) from problem
            raise
