"""Jobs on their way through the scheduler: made from what was ordered, and shown to whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from g5kdeploy.lab.oar import admission
from g5kdeploy.lab.oar.inventory import Inventory
from g5kdeploy.lab.oar.model import Event, Job
from g5kdeploy.lab.oar.store import Entry
from g5kdeploy.lab.oar.text import estimate


def entries(order: admission.Order, now: int, line: str, commands: Sequence[str]) -> list[Entry]:
    """The job that was ordered, or those of an array, each with a command of its own; they have no numbers yet."""
    first = _entry(order, now, line)
    if not commands:
        return [first]
    return [
        replace(first, command=command, alternatives=[*first.alternatives], array_index=index)
        for index, command in enumerate(commands, 1)
    ]


def _entry(order: admission.Order, now: int, line: str) -> Entry:
    start = order.reservation.start if order.reservation else 0
    first = order.alternatives[0].walltime or 0
    mode = "R" if order.reservation else "B"
    command, initial = order.command, line or order.initial_request
    if order.script is not None:
        command = f"./{admission.script_name()}"
        initial = f"{initial} {command}"
    return Entry(
        user=order.user,
        queue=order.queue,
        project=order.project,
        types=tuple(order.types),
        command=command,
        directory=order.directory,
        properties=order.properties,
        message=estimate(order.resources, first, mode, order.name, order.queue, order.project, order.types),
        submitted_at=now,
        alternatives=order.alternatives,
        state="Hold" if order.held else "Waiting",
        name=order.name,
        script=order.script,
        initial_request=initial,
        reservation="toSchedule" if order.reservation else "None",
        requested_start=start,
        started_at=start,
        anterior=order.anterior,
        checkpoint=order.checkpoint,
        signal=order.signal,
        notify=order.notify,
        stdout=order.stdout,
        stderr=order.stderr,
    )


def snapshot(entry: Entry, inventory: Inventory, events: tuple[Event, ...] = (), alternative: int | None = None) -> Job:
    """A job as it is now, with this alternative in front; None: the one that it runs."""
    shown = entry.alternative if alternative is None else alternative
    return Job(
        id=entry.id,
        user=entry.user,
        state=entry.state,
        queue=entry.queue,
        project=entry.project,
        command=entry.command or "",
        script=entry.script,
        directory=entry.directory,
        properties=entry.properties,
        message=entry.message,
        walltime=entry.alternatives[shown].walltime or 0,
        submitted_at=entry.submitted_at,
        name=entry.name,
        types=entry.types,
        started_at=entry.started_at,
        stopped_at=entry.stopped_at,
        scheduled_at=entry.scheduled_at if shown == entry.alternative else None,
        exit_code=entry.exit_code,
        mode="PASSIVE" if entry.command else "INTERACTIVE",
        reservation=entry.reservation,
        requested_start=entry.requested_start,
        wanted=admission.wanted(entry.alternatives),
        initial_request=entry.initial_request,
        events=events,
        assigned=inventory.named(entry.assigned),
        predicted=inventory.named(entry.predicted),
        alternative=shown,
        resubmits=entry.resubmits,
        array=entry.array or entry.id,
        array_index=entry.array_index,
        anterior=entry.anterior,
        stdout_file=_output_file(entry, "stdout", entry.stdout),
        stderr_file=_output_file(entry, "stderr", entry.stderr),
    )


def _output_file(entry: Entry, stream: str, asked: str) -> str:
    if not entry.command:
        return "<interactive shell>"
    if not asked:
        return f"OAR.{entry.name}.{entry.id}.{stream}" if entry.name else f"OAR.{entry.id}.{stream}"
    return asked.replace("%jobname%", entry.name or "").replace("%jobid%", str(entry.id))
