"""Jobs in their users' hands: `oarhold` keeps one from being planned, `oarresume` lets it go, and one that is over comes again."""

from __future__ import annotations

from g5kdeploy.lab.oar.core import Core
from g5kdeploy.lab.oar.model import FINAL_STATES, Refused
from g5kdeploy.lab.oar.store import Entry

_MASTERS = ("root", "oar")


def hold(core: Core, number: int, user: str) -> None:
    """A waiting job waits no longer, until it is resumed. Raises `Refused`."""
    entry = _owned(core, number, user, "hold")
    if entry.state != "Waiting" or entry.stage == "kill":
        raise _refused("hold", number, "the job is not in the right state (try '-r' option)")
    core.event(entry, "HOLD_WAITING_JOB", f"User {user} launched oarhold on the job {number}")
    core.move(entry, "Hold")
    core.ended.append(entry)
    core.ask_for_pass()


def resume(core: Core, number: int, user: str) -> None:
    """A job that was held waits again. Raises `Refused`."""
    entry = _owned(core, number, user, "resume")
    if entry.state != "Hold" or entry.stage == "kill":
        raise _refused("resume", number, "the job is not in the Hold or Suspended state")
    core.event(entry, "RESUME_JOB", f"User {user} launched oarresume on the job {number}")
    core.move(entry, "Waiting")
    core.ask_for_pass()


def resubmit(core: Core, number: int, user: str) -> Entry:
    """A job that is over, once more. Raises `Refused`."""
    entry = core.live.get(number) or core.store.entry(number)
    if entry is None:
        raise Refused(404, 4, "# Error: unknown error (0).\n")
    if not entry.command:
        raise Refused(400, 4, "# Error: an interactive job or a reservation cannot be resubmitted.\n")
    if entry.state not in (*FINAL_STATES, "Finishing"):
        raise Refused(400, 4, "# Error: the job must be in Error or Terminated state.\n")
    if user not in (entry.user, *_MASTERS):
        raise Refused(403, 4, "# Error: you are not the right user.\n")
    return core.resubmit(entry)


def _owned(core: Core, number: int, user: str, do: str) -> Entry:
    entry = core.live.get(number) or core.store.entry(number)
    if entry is None:
        raise _refused(do, number, "this job does not exist")
    if user not in (entry.user, *_MASTERS):
        raise _refused(do, number, "you are not the right user")
    return entry


def _refused(do: str, number: int, why: str) -> Refused:
    return Refused(400, 1, f"/!\\ Cannot {do} {number}: {why}.\n")
