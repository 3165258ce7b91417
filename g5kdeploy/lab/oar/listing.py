"""How OAR's commands print jobs, walltimes and resources."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from g5kdeploy.lab.oar.model import Job, Resource, WalltimeStatus
from g5kdeploy.lab.oar.text import date, duration

_LETTERS = {
    "Waiting": "W", "Hold": "H", "toLaunch": "L", "Launching": "L", "Running": "R", "Terminated": "T", "Error": "E",
    "toError": "E", "Finishing": "F", "toAckReservation": "W",
}  # fmt: skip
_HEADING = """\
Job id    S User     Duration   System message
--------- - -------- ---------- ------------------------------------------------
"""


_ARRAYS = """\
Job id    A. id     index S User     Duration   System message
--------- --------- ----- - -------- ---------- --------------------------------
"""


def table(jobs: Sequence[Job], now: float, *, arrays: bool = False) -> str:
    """A line for each job, as `oarstat` prints them, `arrays` with their places in arrays; nothing at all without jobs."""
    lines = [
        f"{str(one.id)[:9]:<9} "
        + (f"{str(one.array)[:9]:<9} {str(one.array_index)[:5]:<5} " if arrays else "")
        + f"{_LETTERS[one.state]} {one.user[:8]:<8} {_since(one, now)[:10]:>10} {one.message}\n"
        for one in jobs
    ]
    return (_ARRAYS if arrays else _HEADING) + "".join(lines) if lines else ""


def _since(job: Job, now: float) -> str:
    """How long a job has run, as H:MM:SS."""
    if not job.started_at or job.started_at > now:
        return "0:00:00"
    seconds = int(max((job.stopped_at or now) - job.started_at, 0))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def full(job: Job) -> str:
    """Everything of a job, as `oarstat -f` prints it."""
    fields: list[tuple[str, object]] = [
        ("job_array_id", job.array),
        ("job_array_index", job.array_index),
        ("name", job.name or ""),
        ("project", job.project),
        ("owner", job.user),
        ("state", job.state),
        ("wanted_resources", job.wanted),
        ("types", ", ".join(job.types)),
        ("dependencies", " ".join(map(str, job.anterior))),
        ("assigned_resources", _plus(one.id for one in job.assigned)),
        ("assigned_hostnames", _plus(job.nodes)),
        ("queue", job.queue),
        ("command", job.command or ""),
    ]
    if job.exit_code is not None:
        code = job.exit_code
        fields.append(("exit_code", f"{code} ({code >> 8},{code & 127},{code & 128})"))
    fields += [
        ("launchingDirectory", job.directory),
        ("stdout_file", job.stdout_file),
        ("stderr_file", job.stderr_file),
        ("jobType", job.mode),
        ("properties", job.properties),
        ("reservation", job.reservation),
    ]
    if job.reservation == "Scheduled" and job.state == "Waiting":
        fields.append(("reserved_resources", _plus(one.id for one in job.predicted) or "none"))
    shown = job.assigned or job.scheduled_at is not None
    fields += [("walltime", duration(job.walltime) if shown else ""), ("submissionTime", date(job.submitted_at))]
    fields += [("startTime", date(job.started_at))] if job.started_at else []
    fields += [("stopTime", date(job.stopped_at))] if job.stopped_at else []
    fields += [
        ("initial_request", job.initial_request),
        ("message", job.message),
        ("scheduledStart", "no prediction" if job.scheduled_at is None else date(job.scheduled_at)),
        ("resubmit_job_id", job.resubmits),
        ("events", ""),
    ]
    lines = [f"    {name} = {value}\n" for name, value in fields]
    history = [_wrapped(f"{date(one.at)}> {one.type}: ", one.description) for one in job.events]
    return f"Job_Id: {job.id}\n{''.join(lines)}{''.join(history)}\n"


def _wrapped(heading: str, text: str) -> str:
    """A heading and lines that stand below each other behind it."""
    lines = text.split("\n")
    return "".join(f"{' ' * len(heading) if number else heading}{line}\n" for number, line in enumerate(lines))


def _plus(values: Iterable[object]) -> str:
    return "+".join(map(str, values))


def states(jobs: Iterable[Job], as_json_text: bool) -> str:
    """As `oarstat -s` prints states."""
    if as_json_text:
        return _json({str(one.id): one.state for one in jobs})
    return "".join(f"{one.id}: {one.state}\n" for one in jobs)


def events(jobs: Iterable[Job]) -> str:
    """As `oarstat -e` prints the history of jobs."""
    return "".join(
        _wrapped(f"{date(event.at)}> [{one.id}] {event.type}: ", event.description)
        for one in jobs
        for event in one.events
    )


def properties(jobs: Iterable[Job]) -> str:
    """The resources that jobs have, a line each, as `oarstat -p` prints them and `oarprint` reads them."""
    return "".join(
        " , ".join(f" {name} = '{'' if value is None else value}'" for name, value in _properties(resource).items())
        + " \n"
        for one in jobs
        for resource in one.assigned
    )


def _properties(resource: Resource) -> dict[str, Any]:
    host = resource.address.partition(".")[0] if resource.address else ""
    return {
        "resource_id": resource.id,
        "type": resource.type,
        "network_address": resource.address,
        "host": resource.address or host,
        **resource.properties,
    }


def document(jobs: Sequence[Job], *, as_yaml: bool = False) -> str:
    """As `oarstat -J` (or -Y) prints jobs; nothing at all without any."""
    return _written({one.id: _document(one) for one in jobs}, as_yaml) if jobs else ""


def _document(job: Job) -> dict[str, Any]:
    return {
        "Job_Id": job.id,
        "array_id": job.array,
        "array_index": job.array_index,
        "name": job.name,
        "owner": job.user,
        "job_user": job.user,
        "state": job.state,
        "assigned_resources": [one.id for one in job.assigned],
        "assigned_network_address": list(job.nodes),
        "queue": job.queue,
        "command": job.command,
        "launchingDirectory": job.directory,
        "jobType": job.mode,
        "properties": job.properties,
        "reservation": job.reservation,
        "walltime": job.walltime,
        "submissionTime": job.submitted_at,
        "startTime": job.started_at,
        "stopTime": job.stopped_at,
        "message": job.message,
        "scheduledStart": job.scheduled_at,
        "resubmit_job_id": job.resubmits,
        "events": [
            {"job_id": job.id, "event_id": one.id, "type": one.type, "date": one.at, "description": one.description}
            for one in job.events
        ],
        "wanted_resources": job.wanted,
        "project": job.project,
        "cpuset_name": None,
        "types": list(job.types),
        "dependencies": list(job.anterior),
        "exit_code": job.exit_code,
        "stdout_file": job.stdout_file,
        "stderr_file": job.stderr_file,
        "initial_request": job.initial_request,
    }


def walltime(status: WalltimeStatus, state: str) -> str:
    """As `oarwalltime JOB` prints what can be changed, and what was."""
    heading = f"Walltime change status for job {status.job}"
    if status.walltime is None:
        return f"{heading} (job is not running yet):\n  N/A\n"
    kinds = {
        "forced": status.granted_with_force,
        "delaying next jobs": status.granted_with_delay_next_jobs,
        "whole": status.granted_with_whole,
    }
    special = ", ".join(f"{kind}: {value}" for kind, value in kinds.items() if value != "0:0:0")
    granted = f"{status.granted:>12}{f' ({special})' if special else ''}\n"
    if state != "Running":
        return (
            f"{heading} (job is not running):\n  Walltime: {status.walltime:>11}\n"
            f"  Granted: {granted}  Unsatisfied: {status.pending:>8}\n"
        )
    pending = status.pending != "0:0:0"
    more = f" (timeout: {status.timeout})" if status.timeout != "0:0:0" and pending else ""
    more += " (whole: yes)" if pending and status.whole == "YES" else ""
    return (
        f"{heading} (job is running):\n  Current walltime: {status.walltime:>11}\n"
        f"  Possible increase: {status.possible:>10}\n  Already granted: {granted}"
        f"  Pending/unsatisfied: {status.pending:>8}{more}\n"
    )


def node_states(found: Sequence[Resource]) -> str:
    """As `oarnodes -s` prints the resources of nodes."""
    by_node: dict[str, list[Resource]] = {}
    for one in found:
        by_node.setdefault(one.address, []).append(one)
    return "".join(
        f"{node}:\n" + "".join(f"    {one.id}: {_state(one)}\n" for one in of_node)
        for node, of_node in sorted(by_node.items())
    )


def _state(resource: Resource) -> str:
    return "Absent" if resource.state == "Standby" else resource.state


def resources(found: Sequence[Resource]) -> str:
    """As `oarnodes` prints resources."""
    texts = []
    for one in found:
        state = "Absent (standby)" if one.state == "Standby" else one.state
        told = ", ".join(f"{name}={'' if value is None else value}" for name, value in _properties(one).items())
        texts.append(f"network_address: {one.address}\nresource_id: {one.id}\nstate: {state}\nproperties: {told}\n\n")
    return "".join(texts)


def resource_document(found: Sequence[Resource], *, as_yaml: bool = False) -> str:
    """As `oarnodes -J` (or -Y) prints resources."""
    return _written({one.id: {**_properties(one), "state": _state(one)} for one in found}, as_yaml) if found else "{}\n"


def _written(value: Any, as_yaml: bool) -> str:
    if not as_yaml:
        return _json(value)
    import yaml

    return yaml.safe_dump(value, sort_keys=False, explicit_start=True)


def _json(value: Any) -> str:
    return json.dumps(value, indent=3, separators=(",", " : ")) + "\n"
