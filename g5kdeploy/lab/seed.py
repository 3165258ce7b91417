"""Jobs that a lab begins with: a site's database of jobs as a file tells it, without a scheduler behind them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.oar import Event, Job, Listing, Query, Resource, WalltimeStatus
from g5kdeploy.lab.oar.model import FINAL_STATES
from g5kdeploy.lab.unmanned import Unmanned

SUBMITTED = 7200
"""Seconds before the file's moment at which its jobs were submitted, each a second after the other by number."""
LATER = 200
"""Seconds from a job's submission to its first event."""
FIRST_EVENT = 9001

_NAME = re.compile(r"([\w-]+)(?:\[(\d*):(\d*)\])?")


class StoredJobs(Unmanned):
    """A scheduler over jobs that never change: they can be read, nothing can be submitted."""

    def __init__(self, resources: Callable[[], Sequence[Resource]], jobs: Sequence[Job]) -> None:
        super().__init__(resources)
        self.all = list(jobs)

    def job(self, number: int) -> Job | None:
        return next((job for job in self.all if job.id == number), None)

    def jobs(self, query: Query) -> Listing:
        found = [
            job
            for job in sorted(self.all, key=lambda job: (-job.id, job.alternative))
            if all(
                wanted is None or value in wanted
                for wanted, value in (
                    (query.users, job.user),
                    (query.names, job.name),
                    (query.projects, job.project),
                    (query.ids, job.id),
                    (query.states, job.state),
                    (query.queues, job.queue),
                    (query.arrays, job.array or job.id),
                )
            )
        ]
        end = None if query.limit is None else query.offset + query.limit
        return Listing(tuple(found[query.offset : end]), len(found))

    def walltime(self, number: int) -> WalltimeStatus:
        job = self.job(number)
        running = job is not None and job.state == "Running"
        return WalltimeStatus(number, "UNLIMITED" if running else "0:0:0", "FORBIDDEN", "FORBIDDEN")

    def current(self) -> tuple[Job, ...]:
        return tuple(job for job in self.all if job.state not in FINAL_STATES)


def read(path: Path) -> list[dict[str, Any]]:
    """The jobs of a file; raises `Problem` when it cannot be read as one."""
    try:
        found = json.loads(path.read_text())["jobs"]
        if not all(isinstance(one["job_id"], int) and isinstance(one["resources"], list) for one in found):
            raise ValueError("a job has no job_id, or no list of resources")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(
            f"{path} cannot be read as a file of jobs",
            cause=f"{type(error).__name__}: {error}",
            hint='it is {"jobs": [{"job_id": 101, "user": "jdoe", "state": "Running", "resources": ["node-1"], ...}]}',
        ) from error
    return list(found)


_USUAL: Mapping[str, Any] = {
    "user": "jdoe", "name": None, "queue": "default", "project": "default", "types": [], "command": "sleep 1d",
    "walltime": 3600, "start": 0, "stop": 0, "message": "", "exit_code": None, "reservation": "None", "events": [],
    "job_type": "PASSIVE", "properties": "",
}  # fmt: skip
"""What a job of the file is where it does not say; its number, its state and its resources it has to."""


def nodes_of(entries: Sequence[Mapping[str, Any]]) -> set[str]:
    """The names that the jobs' resources have, without their slices: nodes, VLANs, subnets and disks alike."""
    return {name.partition("[")[0] for one in entries for name in one["resources"]}


def jobs(entries: Sequence[Mapping[str, Any]], everything: Sequence[Resource], at: float) -> list[Job]:
    """The jobs on these resources; their times count from the moment `at` (unix seconds)."""
    made: list[Job] = []
    events = itertools.count(FIRST_EVENT)
    moment = int(at)
    for one in entries:
        what = f"job {one['job_id']} of the file of jobs"
        try:
            job = _job({**_USUAL, **one}, everything, moment, events)
            made += [
                dataclasses.replace(job, walltime=job.walltime * (number + 1), alternative=number)
                for number in range(one.get("alternatives", 1))
            ]
        except KeyError as error:
            raise Problem(f"{what} lacks something", cause=f"it has no {error.args[0]}") from error
        except (TypeError, ValueError) as error:
            raise Problem(f"{what} is no job", cause=f"{type(error).__name__}: {error}") from error
    return made


def _job(one: Mapping[str, Any], everything: Sequence[Resource], at: int, events: itertools.count[int]) -> Job:
    number = one["job_id"]
    submitted = at - SUBMITTED + number
    taken = tuple(resource for name in one["resources"] for resource in picked(name, everything))
    started = one["start"] or one["state"] in ("toLaunch", "Launching")
    predicted = one.get("predicted_start", one["start"] if started else None)
    assigned = one.get("assigned", bool(started))
    return Job(
        id=number,
        user=one["user"],
        state=one["state"],
        queue=one["queue"],
        project=one["project"],
        command=one["command"],
        directory=f"/home/{one['user']}",
        properties=one["properties"],
        message=one["message"],
        walltime=one["walltime"],
        submitted_at=submitted,
        name=one["name"],
        types=tuple(one["types"]),
        started_at=at + one["start"] if started else 0,
        stopped_at=at + one["stop"] if one["stop"] else 0,
        scheduled_at=None if predicted is None else at + predicted,
        exit_code=one["exit_code"],
        mode=one["job_type"],
        reservation=one["reservation"],
        events=tuple(
            Event(next(events), number, kind, submitted + LATER + order, text)
            for order, (kind, text) in enumerate(one["events"])
        ),
        assigned=taken if assigned else (),
        predicted=() if assigned else taken,
    )


def picked(name: str, everything: Sequence[Resource]) -> list[Resource]:
    """The resources that a name means: `node-1`, `node-1[0:2]` (its first two cores), `v4`, `s0`, `disk1.node-1`."""
    if re.fullmatch(r"v\d+", name):
        return [one for one in everything if "vlan" in one.type and str(one.properties["vlan"]) == name[1:]]
    if re.fullmatch(r"s\d+", name):
        return [one for one in everything if one.type == "subnet"][int(name[1:]) :][:1]
    if name.startswith("disk"):
        return [one for one in everything if one.type == "disk" and one.properties["disk"] == name]
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name} names no resource")
    cores = [one for one in everything if one.type == "default" and one.address.split(".")[0] == match[1]]
    return cores[int(match[2] or 0) : int(match[3]) if match[3] else None]
