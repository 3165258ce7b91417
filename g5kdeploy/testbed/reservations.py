"""Reserve, wait, extend, attach, release."""

from __future__ import annotations

from dataclasses import dataclass

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.event import Emitter
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.records import Record, Records
from g5kdeploy.testbed.request import Request


@dataclass(frozen=True)
class Reservation:
    """A job and its record; `roles` maps each role to its nodes once the job runs."""

    record: Record
    job: Job

    @property
    def nodes(self) -> tuple[str, ...]:
        """Full names, sorted; empty until the job runs."""
        return self.job.nodes


def reserve(api: Api, request: Request, records: Records, deadline: Deadline, emit: Emitter) -> Reservation:
    """Submit the job, or find it again when an earlier call with the same run did; does not wait for its start.

    Raises `NoResources` when the site refuses (in sentences), `NotAllowed`, `ApiProblem` when it is unreachable.
    """
    raise NotImplementedError


def resume(api: Api, record: Record, records: Records, deadline: Deadline) -> Reservation | None:
    """The job of a record as it is now, looked up by id or by name; None when the site knows none."""
    raise NotImplementedError


def wait_running(
    api: Api, reservation: Reservation, records: Records, deadline: Deadline, emit: Emitter
) -> Reservation:
    """Wait until the job runs. `JobOver` when it ended instead, `DeadlinePassed` when it did not start in time."""
    raise NotImplementedError


def release(api: Api, record: Record, records: Records, deadline: Deadline, emit: Emitter) -> Record:
    """Delete the job (all that carry its name) and wait until the site says it is over; never asks in vain twice."""
    raise NotImplementedError


def attach(
    api: Api, site: str, job: int, records: Records, deadline: Deadline, run: str = "", experiment: str = ""
) -> Reservation:
    """Take on a job that something else made."""
    raise NotImplementedError


def extend(
    api: Api, reservation: Reservation, seconds: int, deadline: Deadline, emit: Emitter
) -> tuple[Reservation, str]:
    """Ask for `seconds` more walltime; the reservation as it is then, and what came of it in words."""
    raise NotImplementedError


def assign(api: Api, reservation: Reservation, deadline: Deadline) -> dict[str, tuple[str, ...]]:
    """Which nodes play which role, the same at every call: role -> full names."""
    raise NotImplementedError
