"""A scheduling pass: who gets which resources when, queue by queue, by falling priority.

In each queue the waiting jobs are planned in the order of submission, holes filled from behind: every one gets the first
hole that its predecessors leave, so nobody delays one who came before. New reservations come after them: they take no place
of a job that is planned already. Besteffort jobs are planned around everybody; the others are planned as if besteffort jobs
were not there, and have them killed.
"""

from __future__ import annotations

from g5kdeploy.lab.oar import advance, batch, launching
from g5kdeploy.lab.oar.admission import QUEUES
from g5kdeploy.lab.oar.core import HOLDING, Core
from g5kdeploy.lab.oar.gantt import SECURITY
from g5kdeploy.lab.oar.plan import Plan
from g5kdeploy.lab.oar.store import Entry
from g5kdeploy.lab.oar.walltimes import process_changes

FAST = 5.0
"""Seconds between two passes when there is something to do."""

LATENCY = 0.5
"""Seconds from a change to the pass that takes account of it."""

IDLE = 60.0
"""Seconds between two passes when there is not: an advance reservation may so begin late."""


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
    process_changes(core)
    core.drop_ended()
    core.inventory.spare((e.assigned, _weight(e)) for e in core.live.values() if e.state in HOLDING and _weight(e))
    plan = Plan(core.now() + 1, core.inventory.usable, core.inventory.everything & ~core.inventory.dead)
    waiting: dict[str, list[Entry]] = {}
    lost: list[Entry] = []
    for entry in sorted(core.live.values(), key=lambda e: (not e.has_type("container"), e.id)):
        if entry.state in HOLDING:
            _hold(core, plan, entry)
        elif entry.reservation == "Scheduled" and entry.predicted and entry.state in ("Waiting", "toAckReservation"):
            advance.keep(plan, entry)
        elif entry.reservation == "Scheduled" and entry.state == "Waiting" and entry.stage != "kill":
            lost.append(entry)
        if entry.state == "Waiting" and entry.stage != "kill":
            waiting.setdefault(entry.queue, []).append(entry)
    for entry in lost:
        advance.regain(core, plan, entry)
    for queue in QUEUES:
        _plan_queue(core, plan, sorted(waiting.get(queue, ()), key=lambda e: e.id))
    launching.launch(core, plan)


def _weight(entry: Entry) -> int:
    """How little a job's nodes are to be taken by others; 0 for not at all less than free ones."""
    return 1 if entry.has_type("besteffort") else 10 if entry.has_type("timesharing") else 0


def _plan_queue(core: Core, plan: Plan, entries: list[Entry]) -> None:
    batch.place_all(core, plan, [entry for entry in entries if entry.reservation == "None"])
    for entry in entries:
        if entry.reservation == "Scheduled":
            advance.treat(core, plan, entry)
    advance.validate_all(core, plan, [entry for entry in entries if entry.reservation == "toSchedule"])


def _hold(core: Core, plan: Plan, entry: Entry) -> None:
    """A job that runs keeps what it has; past its walltime, as if that ended just now."""
    begin = max(entry.started_at, plan.start - entry.walltime)
    if entry.scheduled_at != begin:
        entry.scheduled_at = begin
        core.store.save(entry)
    plan.occupy(entry, begin, entry.walltime + SECURITY, entry.assigned)
