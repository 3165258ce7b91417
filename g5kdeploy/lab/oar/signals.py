"""Signals for the commands of jobs: what their users ask for, and what a job asked for before its end (`--checkpoint`)."""

from __future__ import annotations

from g5kdeploy.lab.oar.commands import signal_number
from g5kdeploy.lab.oar.core import Core
from g5kdeploy.lab.oar.life import first_host
from g5kdeploy.lab.oar.model import Refused, Signalled
from g5kdeploy.lab.oar.store import Entry


def ask(core: Core, number: int, user: str, name: str | None) -> str:
    """Send a user's signal to his running job (None: the one for checkpoints); where to. Raises `Refused`."""
    entry = core.live.get(number) or core.store.entry(number)
    if entry is not None and not entry.command:
        raise Refused(400, 7, "The job is Interactive.")
    if entry is None or user not in (entry.user, "root", "oar"):
        raise Refused(400, 1, "You are not the right user.")
    if entry.state != "Running":
        raise Refused(400, 5, "This job is not running.")
    where = first_host(core, entry)
    if name is None:
        core.event(entry, "CHECKPOINT", f"User {user} requested a checkpoint on the job {number}")
        _checkpoint(core, entry)
        text = f"The job {number} was notified to checkpoint itself on {where}."
        core.event(entry, "CHECKPOINT_SUCCESS", text)
    else:
        core.event(entry, f"SIGNAL_{name}", f"User {user} requested the signal {name} on the job {number}")
        _send(core, entry, signal_number(name), f"SIGNALED with {name}")
        text = f"The job {number} was notified to signal itself with {name} on {where}."
        core.event(entry, "SIG_SUCCESS", text)
    return where


def remind(core: Core, entry: Entry, now: int) -> None:
    """Tell a job that asked for it that its end is near: at each look, until it ends."""
    if entry.checkpoint > 0 and now >= entry.started_at + entry.walltime - entry.checkpoint:
        where = first_host(core, entry)
        core.event(entry, "CHECKPOINT", f"Checkpoint requested on {where}")
        _checkpoint(core, entry)
        text = f"The job {entry.id} was notified to checkpoint itself on {where}"
        core.event(entry, "CHECKPOINT_SUCCESSFULL", text)


def _checkpoint(core: Core, entry: Entry) -> None:
    _send(core, entry, entry.signal, f"CHECKPOINTED with signal {entry.signal}")


def _send(core: Core, entry: Entry, number: int, told: str) -> None:
    command: object = core.commands.get(entry.id)
    if number and isinstance(command, Signalled):
        command.signal(number, told)
