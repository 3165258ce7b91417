"""The end of a pass: jobs whose time has come are launched, and besteffort jobs make way."""

from __future__ import annotations

import functools
import operator

from g5kdeploy.lab.oar.advance import regardless
from g5kdeploy.lab.oar.core import HOLDING, STEP, Core
from g5kdeploy.lab.oar.gantt import SECURITY
from g5kdeploy.lab.oar.inventory import Mask
from g5kdeploy.lab.oar.plan import Plan, container_of, share
from g5kdeploy.lab.oar.store import Entry
from g5kdeploy.lab.oar.text import date, duration


def launch(core: Core, plan: Plan) -> None:
    """Launch what is due and free. While besteffort jobs stand in the way of somebody, nobody is launched."""
    soon = sorted(
        (e for e in core.live.values() if _is_due_by(e, plan.start + SECURITY)), key=lambda e: (e.scheduled_at, e.id)
    )
    if _make_way(core, soon):
        return
    busy: dict[int, Mask] = {e.id: e.assigned for e in core.live.values() if e.state in HOLDING}
    for entry in soon:
        if (entry.scheduled_at or 0) <= plan.start and _is_free(core, entry, busy):
            busy[entry.id] = entry.predicted
            _start(core, entry, plan.start)


def _is_due_by(entry: Entry, moment: int) -> bool:
    waits = entry.state == "Waiting" and entry.stage != "kill" and entry.reservation != "toSchedule"
    return waits and entry.scheduled_at is not None and bool(entry.predicted) and entry.scheduled_at <= moment


def _is_free(core: Core, entry: Entry, busy: dict[int, Mask]) -> bool:
    """Whether a job's resources work, and nobody has them but its container and those who share their time with it."""
    if entry.predicted & core.inventory.usable != entry.predicted and not regardless(entry):
        return False
    mine, around = share(entry), _containers(core, entry)
    others = (
        mask
        for number, mask in busy.items()
        if number not in around and (mine is None or share(core.live[number]) != mine)
    )
    return not functools.reduce(operator.or_, others, 0) & entry.predicted


def _containers(core: Core, entry: Entry) -> set[int]:
    """The job inside of which a job is, the one inside of which that is, and so on."""
    found: set[int] = set()
    inside: Entry | None = entry
    while inside and (number := container_of(inside)) and number not in found:
        found.add(number)
        inside = core.live.get(number)
    return found


def _make_way(core: Core, soon: list[Entry]) -> bool:
    """Ask for the end of besteffort jobs whose resources others are to have within a minute; whether there are any."""
    found = False
    for victim in [e for e in core.live.values() if e.state in HOLDING and e.has_type("besteffort")]:
        if any(_needs(entry, victim) for entry in soon):
            found = True
            core.event(victim, "BESTEFFORT_KILL", f"[MetaSched] kill the besteffort job {victim.id}")
            if not core.store.is_fragged(victim.id):
                core.frag(victim, "root")
    return found


def _needs(entry: Entry, victim: Entry) -> bool:
    mine = share(entry)
    compatible = container_of(entry) == victim.id or (mine is not None and mine == share(victim))
    return bool(entry.predicted & victim.assigned) and not compatible


def _start(core: Core, entry: Entry, start: int) -> None:
    if entry.reservation == "Scheduled" and start > entry.started_at:
        was = duration(entry.walltime)
        text = f"Set actual start time (was: {date(entry.started_at)}) and walltime (was: {was})"
        core.store.set_walltime(entry, entry.walltime - (start - entry.started_at))
        entry.message = entry.message.replace(f",W={was},", f",W={duration(entry.walltime)},", 1)
        core.event(entry, "REDUCE_RESERVATION_WALLTIME", text)
    entry.started_at = entry.scheduled_at = start
    entry.assigned = entry.predicted
    core.move(entry, "toLaunch", due=core.pause(STEP))
