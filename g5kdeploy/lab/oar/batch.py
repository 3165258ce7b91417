"""Waiting jobs that are no reservations: when and where each is going to run."""

from __future__ import annotations

from g5kdeploy.lab.oar import hours
from g5kdeploy.lab.oar.core import STEP, Core
from g5kdeploy.lab.oar.gantt import SECURITY, Gantt
from g5kdeploy.lab.oar.grammar import Alternative
from g5kdeploy.lab.oar.inventory import Mask
from g5kdeploy.lab.oar.pgtext import BadFilter
from g5kdeploy.lab.oar.plan import Plan, container_of, share
from g5kdeploy.lab.oar.store import Entry
from g5kdeploy.lab.oar.text import moment

BESTEFFORT = 300
"""Seconds for which a besteffort job must have its nodes to be begun, however long it would run."""


def place_all(core: Core, plan: Plan, entries: list[Entry]) -> None:
    """Plan the jobs of a queue in their order; inner ones after their containers."""
    left = list(entries)
    while left:
        entry = left.pop(0)
        container = container_of(entry)
        if container and container not in plan.inside and any(other.id == container for other in left):
            left.append(entry)
        else:
            _place(core, plan, entry)


def _place(core: Core, plan: Plan, entry: Entry) -> None:
    """Predict when and where a waiting job is going to run: the alternative that ends first."""
    after = _after(core, plan, entry)
    if after is None:
        return
    gantt = _gantt(core, plan, entry)
    if gantt is None:
        return
    best: tuple[int, int, int, Mask] | None = None
    for number, alternative in enumerate(entry.alternatives):
        hole = _first_hole(core, plan, entry, alternative, gantt, after)
        end = hole[0] + _seconds(entry, alternative) if hole else 0
        if hole and (best is None or end < best[0]):
            best = (end, number, *hole)
    if best is None:
        _leave_out(core, entry, f"Cannot find enough resources for job {entry.id} yet")
        return
    end, number, start, mask = best
    deadline = entry.type_value("deadline")
    if deadline is not None and end > moment(deadline):
        _leave_out(core, entry, entry.message)
        return
    plan.occupy(entry, start, _seconds(entry, entry.alternatives[number]), mask)
    before = (entry.message, entry.scheduled_at, entry.predicted, entry.alternative)
    after_it = ("FIFO scheduling OK", start, mask, number)
    if before != after_it:
        entry.message, entry.scheduled_at, entry.predicted, entry.alternative = after_it
        core.store.save(entry)


def _seconds(entry: Entry, alternative: Alternative) -> int:
    """For how long a job must have its resources."""
    return BESTEFFORT if entry.has_type("besteffort") else (alternative.walltime or 0) + SECURITY


def _leave_out(core: Core, entry: Entry, message: str) -> None:
    """This pass finds no place for a job."""
    if (entry.message, entry.scheduled_at, entry.predicted) != (message, None, 0):
        entry.message, entry.scheduled_at, entry.predicted = message, None, 0
        core.store.save(entry)


def _give_up(core: Core, entry: Entry, message: str) -> None:
    """A job will never run."""
    entry.message, entry.scheduled_at, entry.predicted = message, None, 0
    core.move(entry, "toError", due=core.pause(STEP))


def _after(core: Core, plan: Plan, entry: Entry) -> int | None:
    """When a job may begin at the earliest, by its types and by those before it; None for not in this pass."""
    begin = plan.start
    postponed = entry.type_value("postpone")
    if postponed is not None:
        begin = max(begin, moment(postponed))
    for limit in ("expire", "deadline"):
        value = entry.type_value(limit)
        if value is not None and begin > moment(value):
            _give_up(core, entry, f"Job will never run ({limit}={value}), setting it to error")
            return None
    for number in entry.anterior:
        if number not in core.live and core.store.entry(number) is not None:
            continue  # it is over
        place = plan.places.get(number)
        if place is None:
            _leave_out(core, entry, f"Cannot determine scheduling time due to dependency with the job {number}")
            return None
        end = place.start + place.entry.walltime
        if begin < end:
            begin = end + 2 * SECURITY
    return begin


def _gantt(core: Core, plan: Plan, entry: Entry) -> Gantt | None:
    """What is free for a job; None for an inner one whose container is not there."""
    if container := container_of(entry):
        if container not in plan.inside:
            orphan(core, entry, container)
        return plan.inside.get(container)
    permissive = entry.type_value("state") == "permissive"
    if permissive or share(entry):
        return plan.around(entry, plan.lasting if permissive else plan.usable)
    return plan.full if entry.has_type("besteffort") else plan.firm


def orphan(core: Core, entry: Entry, container: int) -> None:
    """An inner job whose container is not there yet, or never will be."""
    other = core.live.get(container)
    if other is not None and other.state == "Waiting":
        _leave_out(core, entry, f"Inner job: container {container} is yet to scheduled, inner job not scheduled")
    else:
        why = f"container {container} does not exist, inner job will never run"
        _give_up(core, entry, f"Inner job: {why}, setting it to error")


def _first_hole(
    core: Core, plan: Plan, entry: Entry, alternative: Alternative, gantt: Gantt, after: int
) -> tuple[int, Mask] | None:
    try:
        wish = core.wish(entry, alternative)
    except BadFilter:  # a property that the site had when the job was submitted
        return None
    kind = next((kind for kind in hours.KINDS if core.rules.hours and entry.has_type(kind)), "")
    seconds = _seconds(entry, alternative)
    key = (gantt, alternative, entry.properties, kind, seconds, after)
    earliest = plan.earliest.get(key, after)
    if earliest < 0:
        return None
    walltime = alternative.walltime or 0
    hole = gantt.first_hole(earliest, seconds, wish)
    while hole and kind:
        begin = hours.fitting(kind, hole[0], walltime)
        if begin is None or begin == hole[0]:
            hole = hole if begin is not None else None
            break
        hole = gantt.first_hole(begin, seconds, wish)
    plan.earliest[key] = hole[0] if hole else -1
    return hole
