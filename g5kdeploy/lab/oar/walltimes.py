"""Changing the walltime of a running job: asked for at any time, granted by the next pass as far as it fits."""

from __future__ import annotations

from g5kdeploy.lab.oar.core import HOLDING, Core
from g5kdeploy.lab.oar.gantt import SECURITY
from g5kdeploy.lab.oar.grammar import parse_change
from g5kdeploy.lab.oar.model import Refused, WalltimeStatus
from g5kdeploy.lab.oar.plan import container_of, share
from g5kdeploy.lab.oar.store import Change, Entry
from g5kdeploy.lab.oar.text import duration, moment, signed

FORBIDDEN = "FORBIDDEN"
"""Forcing, and delaying other jobs, is for no user: as on Grid'5000."""


def status(entry: Entry) -> WalltimeStatus:
    """What can be changed, and what was."""
    possible = "UNLIMITED" if entry.state == "Running" else "0:0:0"
    if not entry.assigned:
        return WalltimeStatus(entry.id, possible, FORBIDDEN, FORBIDDEN)
    change = entry.change or Change(0)
    return WalltimeStatus(
        entry.id,
        possible,
        FORBIDDEN,
        FORBIDDEN,
        walltime=duration(entry.walltime),
        timeout=duration(change.timeout),
        granted=signed(change.granted),
        pending=signed(change.pending),
        granted_with_force=signed(change.granted_with_force),
        granted_with_delay_next_jobs=signed(change.granted_with_delay_next_jobs),
        granted_with_whole=signed(change.granted_with_whole),
        whole=None if entry.change is None else "YES" if change.whole else "NO",
    )


def request(core: Core, entry: Entry, user: str, asked: str, change: Change) -> str:
    """Note a request; `change` holds its flags, and its timeout or -1. Raises `Refused`."""
    master = user in ("root", "oar")
    if entry.user != user and not master:
        raise _forbidden(f"Job {entry.id} does not belong to you")
    if entry.state != "Running":
        raise _forbidden(f"Job {entry.id} is not running")
    delta = parse_change(asked, entry.walltime)
    if delta is None:
        raise Refused(400, 1, "Syntax error", "Bad request")
    if change.force and not master:
        raise _forbidden("Walltime change for this job is not allowed to be forced")
    if change.delay_next_jobs and not master:
        raise _forbidden("Walltime change for this job is not allowed to delay other jobs")
    if entry.has_type("container") and delta < 0:
        raise _forbidden("Reducing the walltime of a container job is not allowed")
    remaining = entry.started_at + entry.walltime - core.now()
    delta = max(delta, -remaining)
    return _note(core, entry, delta, change)


def _note(core: Core, entry: Entry, delta: int, change: Change) -> str:
    known = entry.change
    timeout = max(change.timeout, 0)
    flags = (delta > 0 and change.force, delta > 0 and change.delay_next_jobs, delta > 0 and change.whole)
    if known is None:
        entry.change = Change(delta, *flags, timeout=timeout)
        text = f"Walltime change request created for job {entry.id} (timeout: {duration(timeout)})"
    else:
        known.pending = delta
        known.force, known.delay_next_jobs, known.whole = flags
        more = ""
        if change.timeout >= 0:
            known.timeout = timeout
            more = f", timeout: {signed(timeout)}"
        text = f"Walltime change request updated for job {entry.id} ({signed(delta)}{more})"
    core.event(entry, "WALLTIME_REQUEST", text)
    core.store.save(entry)
    core.ask_for_pass()
    verb = "accepted" if known is None else "updated"
    return f"Walltime change request {verb} for job {entry.id}, it will be handled shortly"


def process_changes(core: Core) -> None:
    """Grant what fits, before the other jobs are planned anew."""
    for entry in list(core.live.values()):
        change = entry.change
        if change is None or change.pending == 0 or entry.state != "Running" or entry.stage in ("kill", "killed"):
            continue
        if _has_timed_out(core, entry, change):
            continue
        left = entry.started_at + entry.walltime - core.now()
        fit = _possible(core, entry, change) if change.pending > 0 else max(change.pending, -left)
        if fit == 0 or (change.whole and fit != change.pending):
            continue
        _grant(core, entry, change, fit)


def _has_timed_out(core: Core, entry: Entry, change: Change) -> bool:
    asked_at = core.store.last_event_at(entry.id, "WALLTIME_REQUEST")
    if change.pending < 0 or not change.timeout or core.now() - asked_at < change.timeout:
        return False
    text = (
        f"Walltime request reached cancellation timeout, it is aborted ({duration(change.timeout)}), "
        f"(pending: 0:0:0, timeout: 0:0:0)"
    )
    core.event(entry, "WALLTIME_REQUEST_CANCELLATION", text)
    change.pending, change.timeout = 0, 0
    core.store.save(entry)
    return True


def _possible(core: Core, entry: Entry, change: Change) -> int:
    """How many of the seconds asked for are left before the next job on one of its resources.

    Besteffort jobs do not count, nor those that share their time with this one; of those that may be delayed, none but
    reservations.
    """
    end = entry.started_at + entry.walltime
    latest = end + change.pending
    if container := core.live.get(container_of(entry)):
        latest = min(latest, container.started_at + container.walltime)
    if (deadline := entry.type_value("deadline")) is not None:
        latest = min(latest, moment(deadline))
    mine = share(entry)
    # Those that are over are in the plan until this pass makes it anew
    for other in (*core.live.values(), *core.ended):
        if other.has_type("besteffort") or (mine and share(other) == mine):
            continue
        if change.delay_next_jobs and other.reservation == "None":
            continue
        mask = other.assigned if other.state in HOLDING else other.predicted
        begin = other.scheduled_at
        if mask & entry.assigned and begin is not None and begin > end and begin - SECURITY < latest:
            latest = begin - SECURITY - 1
    return max(latest - end, 0)


def _grant(core: Core, entry: Entry, change: Change, fit: int) -> None:
    change.pending -= fit
    change.granted += fit
    if fit > 0:
        change.granted_with_force += fit if change.force else 0
        change.granted_with_delay_next_jobs += fit if change.delay_next_jobs else 0
        change.granted_with_whole += fit if change.whole else 0
    walltime = entry.walltime + fit
    rest = f"granted: {signed(fit)}/pending: {signed(change.pending)}"
    rest += "/force" if change.force else ""
    rest += "/whole" if change.whole else ""
    rest += "/delay next jobs" if change.delay_next_jobs else ""
    if change.pending == 0:
        rest += "/timeout: 0:0:0"
        change.force = change.delay_next_jobs = change.whole = False
        change.timeout = 0
    core.store.set_walltime(entry, walltime)
    core.event(entry, "WALLTIME", f"Walltime changed: {duration(walltime)} ({rest})")
    core.store.save(entry)


def _forbidden(text: str) -> Refused:
    return Refused(403, 3, text, "Forbidden")
