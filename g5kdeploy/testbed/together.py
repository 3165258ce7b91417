"""Several jobs as one reservation: all are taken or none, and all run or none is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.event import Emitter
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.letting_go import release
from g5kdeploy.testbed.lookup import Reservation
from g5kdeploy.testbed.problems import JobOver
from g5kdeploy.testbed.records import Records
from g5kdeploy.testbed.request import Request
from g5kdeploy.testbed.reservations import reserve
from g5kdeploy.testbed.waiting import wait_all

_LETTING_GO = 120.0  # seconds for the end of what is given up


def reserve_all(
    api: Api, requests: Sequence[Request], records: Records, deadline: Deadline, emit: Emitter
) -> list[Reservation]:
    """Submit all requests, or find their jobs again; when one cannot be had, those that were taken are let go.

    Raises what `reservations.reserve` raises. After a kill in between, the same call goes on where it was.
    """
    taken: list[Reservation] = []
    for request in requests:
        try:
            taken.append(reserve(api, request, records, deadline, emit))
        except Problem as problem:
            let_go(api, taken, records, deadline, emit, f"{request.site} gives none: {problem}")
            raise
    return taken


def start_all(
    api: Api,
    reservations: Sequence[Reservation],
    records: Records,
    deadline: Deadline,
    emit: Emitter,
    bell: threading.Event | None = None,
) -> list[Reservation]:
    """Wait until all of the jobs run; when one is lost, the others are let go and `JobOver` is raised."""
    try:
        return wait_all(api, reservations, records, deadline, emit, bell)
    except JobOver as over:
        let_go(
            api, reservations, records, Deadline.after(_LETTING_GO, "the others' end", deadline.clock), emit, str(over)
        )
        raise


def let_go(
    api: Api, reservations: Iterable[Reservation], records: Records, deadline: Deadline, emit: Emitter, why: str
) -> None:
    """Release what nobody needs without the rest; what cannot be released now stays on record, and is told."""
    for one in reservations:
        record = records.get(one.record.name)
        if record is None or record.released:
            continue
        emit.warn("reserve", f"job {one.job.id} on {one.site} is let go, for {why}")
        try:
            release(api, record, records, deadline, emit)
        except Problem as problem:
            emit.warn("reserve", f"{problem}; g5kdeploy release ends it")
