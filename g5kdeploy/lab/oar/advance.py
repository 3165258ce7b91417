"""Advance reservations: accepted at their very time or refused; how they keep their nodes, and what they lose."""

from __future__ import annotations

from g5kdeploy.lab.oar import batch
from g5kdeploy.lab.oar.core import STEP, Core
from g5kdeploy.lab.oar.gantt import SECURITY
from g5kdeploy.lab.oar.inventory import Mask
from g5kdeploy.lab.oar.pgtext import BadFilter
from g5kdeploy.lab.oar.plan import Plan, container_of, share
from g5kdeploy.lab.oar.store import Entry
from g5kdeploy.lab.oar.text import date

PATIENCE = 300
"""Seconds for which a reservation waits for those of its nodes that are away."""

_AHEAD = 300
"""Seconds to its begin from which on a reservation does not care who has its nodes now."""


def keep(plan: Plan, entry: Entry) -> None:
    """An accepted reservation keeps its place."""
    begin = entry.started_at if entry.scheduled_at is None else entry.scheduled_at
    plan.occupy(entry, begin, entry.walltime + SECURITY, entry.predicted)


def regain(core: Core, plan: Plan, entry: Entry) -> None:
    """A reservation that was held meanwhile has lost its resources: it gets others, if there are."""
    begin = max(entry.started_at, plan.start)
    hole = _hole(core, plan, entry, begin)
    if hole and hole[0] == begin:
        entry.scheduled_at, entry.predicted = entry.started_at, hole[1]
        entry.message = "Renewed resources for reservation"
        text = "Resources for reservation were lost, got them back"
        core.event(entry, "GET_RESOURCES_BACK_FOR_RESERVATION", text)
        keep(plan, entry)
    else:
        message = "No resource for reservation"
        if entry.message != message:
            text = "Resources for reservation are lost, could not get them back"
            core.event(entry, "UNABLE_TO_GET_RESOURCE_BACK_FOR_RESERVATION", text)
        entry.message = message
    core.store.save(entry)


def treat(core: Core, plan: Plan, entry: Entry) -> None:
    """Let an accepted reservation whose time has come wait for nodes that are away, or begin without them."""
    if plan.start > entry.started_at + entry.walltime:
        entry.message = "Reservation expired and couldn't be started."
        core.move(entry, "Error")
        return
    if entry.started_at > plan.start or regardless(entry) or not entry.predicted:
        return
    there = entry.predicted & core.inventory.usable
    patient = entry.started_at + PATIENCE / core.pace > plan.start
    if not there or (there != entry.predicted and patient):
        entry.scheduled_at = plan.start + 1
        core.store.save(entry)
    elif there != entry.predicted:
        _reduce(core, entry, there)


def regardless(entry: Entry) -> bool:
    """Whether a job begins in whichever state its nodes are: it does nothing with them."""
    return entry.type_value("state") == "permissive" and (entry.has_type("noop") or entry.has_type("cosystem"))


def _reduce(core: Core, entry: Entry, there: Mask) -> None:
    """Nodes stayed away for too long: begin without them."""
    lost, entry.predicted = entry.predicted.bit_count(), there
    text = f"[MetaSched] Reduce the number of resources for the job {entry.id}."
    core.event(entry, "SCHEDULER_REDUCE_NB_NODES_FOR_RESERVATION", text)
    entry.message = entry.message.replace(f"R={lost},", f"R={there.bit_count()},", 1)
    core.store.save(entry)


def validate_all(core: Core, plan: Plan, entries: list[Entry]) -> None:
    """Accept or refuse the new reservations of a queue; inner ones after their containers."""
    left = list(entries)
    while left:
        entry = left.pop(0)
        container = container_of(entry)
        if container and container not in plan.inside:
            if any(other.id == container for other in left):
                left.append(entry)
            else:
                batch.orphan(core, entry, container)
        else:
            _validate(core, plan, entry)


def _validate(core: Core, plan: Plan, entry: Entry) -> None:
    """Accept a reservation at its very time, or refuse it with the moment at which it could be."""
    entry.reservation = "Scheduled"
    if plan.start >= entry.requested_start + entry.walltime:
        _refuse(core, entry, "Reservation too old")
        return
    begin = max(entry.requested_start, plan.start)
    hole = _hole(core, plan, entry, begin)
    if hole is None:
        _refuse(core, entry, "This reservation cannot run")
    elif hole[0] != begin:
        _refuse(core, entry, f"This reservation could run at {date(hole[0])}")
    else:
        entry.scheduled_at, entry.predicted = hole
        keep(plan, entry)
        core.move(entry, "toAckReservation", due=core.pause(STEP / 10))


def _hole(core: Core, plan: Plan, entry: Entry, begin: int) -> tuple[int, Mask] | None:
    """The first time, from `begin` on, at which a reservation could be, and its resources: of its first alternative."""
    gantt = plan.inside.get(container_of(entry))
    if gantt is None or share(entry):
        gantt = plan.around(entry, plan.lasting)
    try:
        wish = core.wish(entry, entry.alternatives[0], ahead=entry.started_at - plan.start >= _AHEAD)
    except BadFilter:  # a property that the site had when the job was submitted
        return None
    return gantt.first_hole(begin, entry.walltime + SECURITY, wish)


def _refuse(core: Core, entry: Entry, reason: str) -> None:
    entry.message = reason
    entry.stopped_at = entry.started_at
    core.move(entry, "toError", due=core.pause(STEP))
