"""Asking for more walltime, and what came of it."""

from __future__ import annotations

from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import human_seconds
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import InvalidUse, NoResources
from g5kdeploy.testbed import lookup
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.lookup import Reservation
from g5kdeploy.testbed.problems import ApiProblem, Unclear
from g5kdeploy.testbed.request import told, walltime_text

_HANDLED = 20.0  # seconds within which the scheduler's next pass should deal with a request
_POLL = 2.0


def extend(
    api: Api, reservation: Reservation, seconds: int, deadline: Deadline, emit: Emitter
) -> tuple[Reservation, str]:
    """Ask for `seconds` more walltime; the reservation as it is then, and what came of it in words.

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
        patience = deadline.within(_HANDLED, "the site's answer to the extension")
        while True:
            now = lookup.job(api, site, number, deadline)
            change: dict[str, Any] = dict(api.get(path, deadline))
            pending = str(change.get("pending", "0:0:0"))
            if now.over or now.walltime >= wanted or patience.remaining() <= _POLL:
                break
            patience.sleep(_POLL)
        gained = now.walltime - before.walltime
        until = f"; it ends at {told(now.ends_at)}" if now.ends_at else ""
        if now.over:
            end.text = f"job {number} ended meanwhile: {now.reason()}"
        elif gained >= seconds:
            end.text = f"granted: {human_seconds(gained)}{until}"
        elif gained > 0:
            end.text = f"granted in part: {human_seconds(gained)}, {pending} still pending{until}"
        else:
            end.text = f"pending: the site grants it when nobody else is delayed by it{until}"
    return Reservation(reservation.record, now), end.text


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
