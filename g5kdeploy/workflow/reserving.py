"""The phases reserve and release: a job that is on record before it is asked for, and let go whatever happens."""

from __future__ import annotations

from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import InvalidUse, NoResources
from g5kdeploy.node import Stage
from g5kdeploy.testbed import hardware, inventory, reservations
from g5kdeploy.testbed.problems import JobOver
from g5kdeploy.testbed.request import Request, RoleNodes
from g5kdeploy.testbed.reservations import Reservation
from g5kdeploy.testbed.walltime import Extension
from g5kdeploy.workflow import starting
from g5kdeploy.workflow.login import Login
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
    Nothing is submitted where the site's frontend cannot be logged into.
    """
    asked = request(session)
    deadline = Deadline.after(ASK_SECONDS, "the reservation", session.clock)
    latest = None
    login = None if session.records.unreleased(run=session.run.id) else Login(session.frontend, deadline)
    if (at or policy) and login:
        asked, latest = starting.placed(session, asked, at, policy, deadline)
    inventory.check_exists(session.api, asked, deadline)
    if login:
        login.check()
    asked, reservation = starting.submitted(session, asked, latest, deadline)
    return _started(session, reservation, wait, asked.at)


def attach(session: Session, number: int, site: str | None = None, wait: float | None = None) -> dict[str, Any]:
    """Take on a job that exists already, as `reserve` takes one of its own.

    Raises `InvalidUse` when the run has another live job there, and what `reservations.attach` raises.
    """
    place = site or session.run.site
    for record in session.records.unreleased(run=session.run.id):
        if record.job != number:
            raise InvalidUse(
                f"run {session.run.id} has a reservation already: job {record.job or record.name} on {record.site}",
                hint=f"g5kdeploy release --run {session.run.id} ends it",
            )
    if place != session.run.site:
        session.run.set(site=place)
    deadline = Deadline.after(ASK_SECONDS, f"job {number} on {place}", session.clock)
    asked = request(session)
    before = next((r for r in session.records.unreleased() if (r.site, r.job) == (place, number)), None)
    reservation = reservations.attach(
        session.api, place, number, session.records, deadline, asked.run, asked.experiment, asked.roles
    )
    job = reservation.job
    if "deploy" not in job.types:
        session.emit.warn("attach", f"job {number} is not of the type deploy: kadeploy will refuse its nodes")
    try:
        return _started(session, reservation, wait, float(job.scheduled_at) if job.scheduled_at else None)
    except NoResources as problem:  # it does not suit the roles: it stays whose it was
        record = reservation.record
        session.records.save(before) if before else session.records.released(record, f"not taken on: {problem}")
        session.run.set(job=None)
        raise


def extend(session: Session, seconds: int, wait: float) -> list[Extension]:
    """Ask for more walltime for the run's jobs; what came of it, each."""
    found = []
    deadline = Deadline.after(ASK_SECONDS + wait, "the extension", session.clock)
    for record in session.records.unreleased(run=session.run.id):
        held = reservations.resume(session.api, record, session.records, deadline)
        if held is None:
            raise JobOver(f"job {record.job} on {record.site} is gone", cause="the site knows it no more")
        found.append(reservations.extend(session.api, held, seconds, deadline, session.emit, wait))
        _keep(session, found[-1].reservation)
    if not found:
        raise InvalidUse(f"run {session.run.id} holds no job", hint=f"g5kdeploy reserve {session.experiment.file}")
    return found


def _started(session: Session, reservation: Reservation, wait: float | None, at: float | None) -> dict[str, Any]:
    """Wait until the job runs (at most `wait` seconds; default: a day after its start `at`), and share out its nodes."""
    _keep(session, reservation)
    if wait is None:
        wait = WAIT_SECONDS + max(0.0, (at or 0.0) - session.clock.wall())
    patience = Deadline.after(wait, f"the start of job {reservation.job.id}", session.clock)
    reservation = reservations.wait_running(session.api, reservation, session.records, patience, session.emit)
    _keep(session, reservation)
    return _assign(session, reservation, Deadline.after(ASK_SECONDS, "the nodes of the job", session.clock))


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
