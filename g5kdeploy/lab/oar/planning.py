"""A scheduling pass: who gets which resources when, in the order of submission, holes filled from behind.

Every waiting job gets the first hole that its predecessors leave, so nobody delays one who came before. Besteffort jobs
are planned around everybody; the others are planned as if besteffort jobs were not there, and have them killed.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field

from g5kdeploy.lab.oar import hours
from g5kdeploy.lab.oar.admission import QUEUES
from g5kdeploy.lab.oar.core import HOLDING, STEP, Core
from g5kdeploy.lab.oar.gantt import SECURITY, Gantt
from g5kdeploy.lab.oar.grammar import Alternative
from g5kdeploy.lab.oar.inventory import Mask
from g5kdeploy.lab.oar.life import priority_text
from g5kdeploy.lab.oar.pgtext import BadFilter
from g5kdeploy.lab.oar.store import Entry
from g5kdeploy.lab.oar.text import date, duration
from g5kdeploy.lab.oar.walltimes import process_changes

FAST = 5.0
"""Seconds between two passes when there is something to do."""

LATENCY = 0.5
"""Seconds from a change to the pass that takes account of it."""

IDLE = 60.0
"""Seconds between two passes when there is not: an advance reservation may so begin late."""

RESERVATION_PATIENCE = 300
"""Seconds for which a reservation waits for those of its nodes that are away."""


@dataclass
class Plan:
    """The gantts of one pass. `start` is its second: the one after now."""

    start: int
    firm: Gantt
    full: Gantt
    inside: dict[int, Gantt] = field(default_factory=dict)
    """Of the containers, by job."""
    held: list[tuple[int, int, Mask]] = field(default_factory=list)
    """(start, seconds, resources) of what is not besteffort."""
    sharing: list[tuple[Entry, int, int, Mask]] = field(default_factory=list)
    """(job, start, seconds, resources) of all that has a place: what a job that shares its time is planned around."""
    earliest: dict[object, int] = field(default_factory=dict)
    """Where the last job with the very same wish was put: no other can be put earlier."""

    def occupy(self, entry: Entry, start: int, seconds: int, mask: Mask) -> None:
        """Take resources for a job, in all gantts that it concerns."""
        inner = entry.type_value("inner")
        if inner:
            if gantt := self.inside.get(int(inner)):
                gantt.occupy(start, seconds, mask)
            return
        self.sharing.append((entry, start, seconds, mask))
        self.full.occupy(start, seconds, mask)
        if not entry.has_type("besteffort"):
            self.firm.occupy(start, seconds, mask)
            self.held.append((start, seconds, mask))
        if entry.has_type("container"):
            gantt = Gantt(self.start, 0)
            gantt.release(start, seconds, mask)
            self.inside[entry.id] = gantt

    def around(self, entry: Entry, usable: Mask) -> Gantt:
        """What is free for a job that shares its time: what those have that share it with him is free for him."""
        gantt = Gantt(self.start, usable)
        for other, start, seconds, mask in self.sharing:
            gives_way = other.has_type("besteffort") and not entry.has_type("besteffort")
            if share(other) != share(entry) and not gives_way:
                gantt.occupy(start, seconds, mask)
        return gantt


def share(entry: Entry) -> tuple[str, str] | None:
    """Jobs with the same share the time of their nodes: of one user or all, of one name or all; None for no sharing."""
    wanted = entry.type_value("timesharing")
    if wanted is None:
        return None
    parts = {part.strip() for part in (wanted or "*,*").split(",")}
    return entry.user if "user" in parts else "*", (entry.name or "") if "name" in parts else "*"


def next_at(core: Core) -> float:
    """When the next pass is due: soon after a change, but not right after another pass."""
    idle = core.last_pass + IDLE / core.pace
    if core.wanted_at is None:
        return idle
    return min(idle, max(core.last_pass + FAST / core.pace, core.wanted_at + LATENCY / core.pace))


def run_pass(core: Core) -> None:
    """Plan, launch, and ask for the end of besteffort jobs that stand in the way."""
    core.last_pass = core.wall()
    core.wanted_at = None
    core.drop_ended()
    process_changes(core)
    start = core.now() + 1
    usable = core.inventory.usable
    plan = Plan(start, Gantt(start, usable), Gantt(start, usable))
    waiting: dict[str, list[Entry]] = {}
    fresh: list[Entry] = []
    for entry in sorted(core.live.values(), key=lambda e: (not e.has_type("container"), e.id)):
        if entry.state in HOLDING:
            _hold(core, plan, entry)
        elif entry.state != "Waiting" or entry.stage == "kill":
            continue
        elif entry.reservation == "Scheduled":
            _keep_reservation(core, plan, entry)
        elif entry.reservation == "toSchedule":
            fresh.append(entry)
        else:
            waiting.setdefault(entry.queue, []).append(entry)
    for entry in sorted(fresh, key=lambda e: (QUEUES.index(e.queue), e.id)):
        _validate(core, plan, entry)
    for queue in QUEUES:
        for entry in sorted(waiting.get(queue, ()), key=lambda e: e.id):
            _place(core, plan, entry)
    _launch(core, plan)


def _hold(core: Core, plan: Plan, entry: Entry) -> None:
    """A job that runs keeps what it has; past its walltime, as if that ended just now."""
    begin = max(entry.started_at, plan.start - entry.walltime)
    if entry.scheduled_at != begin:
        entry.scheduled_at = begin
        core.store.save(entry)
    plan.occupy(entry, begin, entry.walltime + SECURITY, entry.assigned)


def _keep_reservation(core: Core, plan: Plan, entry: Entry) -> None:
    """An accepted reservation keeps its place, or begins with what is left of it."""
    begin = entry.started_at
    if plan.start > entry.started_at + entry.walltime:
        entry.message = "Reservation expired and couldn't be started."
        core.move(entry, "Error")
        return
    if entry.started_at <= plan.start:
        begin = plan.start
        there = entry.predicted & core.inventory.usable
        if not there:
            begin = plan.start + 1
        elif there != entry.predicted:
            if entry.started_at + RESERVATION_PATIENCE / core.pace > plan.start:
                begin = plan.start + 1
            else:
                _reduce(core, entry, there)
    if entry.scheduled_at != begin:
        entry.scheduled_at = begin
        core.store.save(entry)
    plan.occupy(entry, begin, entry.walltime - (begin - entry.started_at) + SECURITY, entry.predicted)


def _reduce(core: Core, entry: Entry, there: Mask) -> None:
    """Nodes stayed away for too long: begin without them."""
    lost, entry.predicted = entry.predicted.bit_count(), there
    text = f"[MetaSched] Reduce the number of resources for the job {entry.id}."
    core.event(entry, "SCHEDULER_REDUCE_NB_NODES_FOR_RESERVATION", text)
    entry.message = entry.message.replace(f"R={lost},", f"R={there.bit_count()},", 1)
    core.store.save(entry)


def _validate(core: Core, plan: Plan, entry: Entry) -> None:
    """Accept a reservation at its very time, or refuse it with the moment at which it could be."""
    entry.reservation = "Scheduled"
    if plan.start >= entry.requested_start + entry.walltime and entry.walltime >= 0:
        _refuse(core, entry, "Reservation too old")
        return
    begin = max(entry.requested_start, plan.start)
    inner = entry.type_value("inner")
    if inner:
        gantt = plan.inside.get(int(inner))
    else:
        gantt = Gantt(plan.start, core.inventory.everything & ~core.inventory.dead)
        for held in plan.held:
            gantt.occupy(*held)
    seconds = entry.walltime + SECURITY
    hole = gantt.first_hole(begin, seconds, core.wish(entry, entry.alternatives[0])) if gantt else None
    if hole is None:
        _refuse(core, entry, "This reservation cannot run")
    elif hole[0] != begin:
        _refuse(core, entry, f"This reservation could run at {date(hole[0])}")
    else:
        entry.scheduled_at, entry.predicted = hole
        plan.occupy(entry, begin, seconds, entry.predicted)
        core.move(entry, "toAckReservation", due=core.pause(STEP / 10))


def _refuse(core: Core, entry: Entry, reason: str) -> None:
    entry.message = reason
    entry.stopped_at = entry.started_at
    core.move(entry, "toError", due=core.pause(STEP))


def _place(core: Core, plan: Plan, entry: Entry) -> None:
    """Predict when and where a waiting job is going to run: the alternative that ends first."""
    gantt = plan.full if entry.has_type("besteffort") else plan.firm
    if share(entry):
        gantt = plan.around(entry, core.inventory.usable)
    if inner := entry.type_value("inner"):
        if int(inner) not in plan.inside:
            _orphan(core, entry, int(inner))
            return
        gantt = plan.inside[int(inner)]
    after = _after(core, plan, entry)
    if after is None:
        return
    best: tuple[int, int, int, Mask] | None = None
    for number, alternative in enumerate(entry.alternatives):
        hole = _first_hole(core, plan, entry, alternative, gantt, after)
        walltime = alternative.walltime or 0
        if hole and (best is None or hole[0] + walltime < best[0]):
            best = (hole[0] + walltime, number, *hole)
    before = (entry.message, entry.scheduled_at, entry.predicted, entry.alternative)
    if best is None:
        entry.message = f"Cannot find enough resources for job {entry.id} yet"
        entry.scheduled_at, entry.predicted = None, 0
    else:
        entry.message = "FIFO scheduling OK"
        _, entry.alternative, entry.scheduled_at, entry.predicted = best
        plan.occupy(entry, entry.scheduled_at, entry.walltime + SECURITY, entry.predicted)
    if before != (entry.message, entry.scheduled_at, entry.predicted, entry.alternative):
        core.store.save(entry)


def _after(core: Core, plan: Plan, entry: Entry) -> int | None:
    """When a job may begin for those that must be over before; None while the end of one of them is not known."""
    begin = plan.start
    for number in entry.anterior:
        other = core.live.get(number)
        if other is None and core.store.entry(number) is not None:
            continue  # it is over
        if other is None or other.scheduled_at is None:
            entry.message = f"Cannot determine scheduling time due to dependency with the job {number}"
            entry.scheduled_at, entry.predicted = None, 0
            core.store.save(entry)
            return None
        end = other.scheduled_at + other.walltime
        if begin < end:
            begin = end + 2 * SECURITY
    return begin


def _first_hole(
    core: Core, plan: Plan, entry: Entry, alternative: Alternative, gantt: Gantt, after: int
) -> tuple[int, Mask] | None:
    try:
        wish = core.wish(entry, alternative)
    except BadFilter:  # a property that the site had when the job was submitted
        return None
    kind = next((kind for kind in hours.KINDS if core.rules.hours and entry.has_type(kind)), "")
    key = (id(gantt), alternative, entry.properties, kind, after)
    earliest = plan.earliest.get(key, after)
    if earliest < 0:
        return None
    walltime = alternative.walltime or 0
    hole = gantt.first_hole(earliest, walltime + SECURITY, wish)
    while hole and kind:
        begin = hours.fitting(kind, hole[0], walltime)
        if begin is None or begin == hole[0]:
            hole = hole if begin is not None else None
            break
        hole = gantt.first_hole(begin, walltime + SECURITY, wish)
    plan.earliest[key] = hole[0] if hole else -1
    return hole


def _orphan(core: Core, entry: Entry, container: int) -> None:
    """An inner job whose container is not there (yet)."""
    if container in core.live:
        entry.message = f"Inner job: container {container} is yet to scheduled, inner job not scheduled"
        entry.scheduled_at, entry.predicted = None, 0
        core.store.save(entry)
        return
    entry.message = f"Inner job: container {container} does not exist, inner job will never run, setting it to error"
    core.move(entry, "toError", due=core.pause(STEP))


def _launch(core: Core, plan: Plan) -> None:
    """Launch what is due and free; make besteffort jobs go where others are due within a minute."""
    busy: dict[int, Mask] = {e.id: e.assigned for e in core.live.values() if e.state in HOLDING}
    besteffort = {number for number in busy if core.live[number].has_type("besteffort")}
    taken = 0
    for number, mask in busy.items():
        if not core.live[number].has_type("inner"):
            taken |= mask
    soon = sorted(
        (e for e in core.live.values() if _is_due_by(e, plan.start + SECURITY)), key=lambda e: (e.scheduled_at, e.id)
    )
    for entry in soon:
        inside = entry.has_type("inner")
        if not entry.has_type("besteffort") and not inside:
            for number in besteffort:
                if busy[number] & entry.predicted:
                    _preempt(core, core.live[number])
        others = taken
        if mine := share(entry):
            others = functools.reduce(
                operator.or_, (mask for number, mask in busy.items() if share(core.live[number]) != mine), 0
            )
        free = inside or not others & entry.predicted
        ready = entry.predicted & core.inventory.usable == entry.predicted
        if (entry.scheduled_at or 0) <= plan.start and free and ready:
            taken |= 0 if inside else entry.predicted
            busy[entry.id] = entry.predicted
            _start(core, entry, plan.start)


def _is_due_by(entry: Entry, moment: int) -> bool:
    waits = entry.state == "Waiting" and entry.stage != "kill" and entry.reservation != "toSchedule"
    return waits and entry.scheduled_at is not None and bool(entry.predicted) and entry.scheduled_at <= moment


def _preempt(core: Core, entry: Entry) -> None:
    if entry.state == "Finishing" or core.store.is_fragged(entry.id):
        return
    core.event(entry, "BESTEFFORT_KILL", f"[MetaSched] kill the besteffort job {entry.id}")
    core.frag(entry, "root")


def _start(core: Core, entry: Entry, start: int) -> None:
    if entry.reservation == "Scheduled" and start > entry.started_at:
        was = duration(entry.walltime)
        text = f"Set actual start time (was: {date(entry.started_at)}) and walltime (was: {was})"
        core.store.set_walltime(entry, entry.walltime - (start - entry.started_at))
        entry.message = entry.message.replace(f",W={was},", f",W={duration(entry.walltime)},", 1)
        core.event(entry, "REDUCE_RESERVATION_WALLTIME", text)
    if entry.has_type("besteffort"):
        core.event(entry, "SCHEDULER_PRIORITY_UPDATED_START", priority_text(entry))
    entry.started_at = entry.scheduled_at = start
    entry.assigned = entry.predicted
    core.move(entry, "toLaunch", due=core.pause(STEP))
