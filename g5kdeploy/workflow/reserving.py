"""The phases reserve and release: a job that is on record before it is asked for, and let go whatever happens."""

from __future__ import annotations

from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node import Stage
from g5kdeploy.testbed import hardware, inventory, reservations
from g5kdeploy.testbed.request import Request, RoleNodes
from g5kdeploy.testbed.reservations import Reservation
from g5kdeploy.workflow import starting
from g5kdeploy.workflow.session import Session

ASK_SECONDS = 600.0
WAIT_SECONDS = 24 * 3600.0
RELEASE_SECONDS = 180.0


def request(session: Session) -> Request:
    """What the experiment asks of the site."""
    experiment = session.experiment
    return Request(
        site=session.run.site,
        roles=tuple(
            RoleNodes(name, role.nodes, role.cluster, role.properties) for name, role in experiment.roles.items()
        ),
        walltime=experiment.walltime,
        queue=experiment.queue,
        types=experiment.job_types,
        project=experiment.project,
        label=experiment.name,
        run=session.run.id,
        experiment=str(experiment.file),
    )


def reserve(session: Session, wait: float | None = None, at: str = "", policy: str = "") -> dict[str, Any]:
    """Submit the job, or find it again, and wait at most `wait` seconds until it runs (default: a day after its start).

    `at` is a word or moment as `planning.window` takes it, `policy` one of `starting.POLICIES`; "" for neither.
    """
    asked = request(session)
    deadline = Deadline.after(ASK_SECONDS, "the reservation", session.clock)
    latest = None
    if (at or policy) and not session.records.unreleased(run=session.run.id):
        asked, latest = starting.placed(session, asked, at, policy, deadline)
    inventory.check_exists(session.api, asked, deadline)
    asked, reservation = starting.submitted(session, asked, latest, deadline)
    _keep(session, reservation)
    if wait is None:
        wait = WAIT_SECONDS + max(0.0, (asked.at or 0.0) - session.clock.wall())
    patience = Deadline.after(wait, f"the start of job {reservation.job.id}", session.clock)
    reservation = reservations.wait_running(session.api, reservation, session.records, patience, session.emit)
    _keep(session, reservation)
    return _assign(session, reservation, deadline)


def _keep(session: Session, reservation: Reservation) -> None:
    job = reservation.job
    session.run.set(
        job={
            "id": job.id,
            "site": job.site,
            "name": job.name,
            "record": reservation.record.name,
            "queue": job.queue,
            "types": list(job.types),
            "walltime": job.walltime,
            "submitted_at": job.submitted_at,
            "started_at": job.started_at,
            "ends_at": job.ends_at if job.running else None,
        }
    )


def _assign(session: Session, reservation: Reservation, deadline: Deadline) -> dict[str, Any]:
    roles = reservations.assign(session.api, reservation, deadline)
    described = hardware.hardware(session.api, reservation.nodes, deadline)
    known = session.run.nodes()
    for role, names in roles.items():
        for name in names:
            if name not in known:
                session.run.set_node(name, role=role, stage=Stage.RESERVED.value, hardware=described[name])
    return {"job": reservation.job.id, "roles": {role: list(names) for role, names in roles.items()}}


def is_over(session: Session) -> bool:
    """Whether the run's job has ended (or the site knows it no more): nothing can go on with its nodes."""
    told = session.run.document()["job"]
    if not told:
        return False
    record = next((r for r in session.records.all() if r.name == told["record"]), None)
    if record is None:
        return True
    deadline = Deadline.after(60, f"the state of job {told['id']}", session.clock)
    found = reservations.resume(session.api, record, session.records, deadline)
    return found is None or found.job.over


def release(session: Session) -> dict[str, Any]:
    """Delete the run's jobs, those too that it cannot know of, and wait until the site says that they are over."""
    released = []
    deadline = Deadline.after(RELEASE_SECONDS, "the release", session.clock)
    for record in session.records.unreleased(run=session.run.id):
        done = reservations.release(session.api, record, session.records, deadline, session.emit)
        released.append(done.name)
    session.run.set(released=True)
    return {"released": released}
