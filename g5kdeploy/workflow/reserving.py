"""The phases reserve and release: a job that is on record before it is asked for, and let go whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.files import Held
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import human_seconds, to_paste
from g5kdeploy.events.failure import InvalidUse, NoResources
from g5kdeploy.node import Stage
from g5kdeploy.testbed import hardware, inventory, letting_go, reservations, together
from g5kdeploy.testbed.problems import JobOver
from g5kdeploy.testbed.records import Record
from g5kdeploy.testbed.request import Request, apart, told
from g5kdeploy.testbed.reservations import Reservation
from g5kdeploy.testbed.walltime import Extension
from g5kdeploy.workflow import doorbell, starting
from g5kdeploy.workflow.login import Login
from g5kdeploy.workflow.session import Session

ASK_SECONDS = 600.0
WAIT_SECONDS = 24 * 3600.0
RELEASE_SECONDS = 180.0


def request(session: Session) -> Request:
    """What the experiment asks of all its sites; `request.apart` makes one of each."""
    experiment = session.experiment
    subnets = experiment.subnets
    return Request(
        site=session.run.site,
        roles=starting.roles(experiment),
        walltime=experiment.walltime,
        queue=experiment.queue,
        types=experiment.job_types,
        project=experiment.project,
        exclude=starting.unfolded(experiment.exclude_nodes),
        vlan=experiment.vlan or "",
        subnets=(subnets.prefix, subnets.count) if subnets else None,
        platform=starting.platform(session.run.manifest_file),
        label=experiment.name,
        run=session.run.id,
        experiment=str(experiment.file),
    )


def reserve(
    session: Session,
    wait: float | None = None,
    at: str = "",
    policy: str = "",
    sites: Sequence[str] | None = None,
    site: str = "",
) -> dict[str, Any]:
    """Submit the jobs, or find them again, and wait at most `wait` seconds until all run (default: a day after the start).

    With a `wait` of 0 it only submits: the phase is done partly, and the next time it waits.

    `at` is a word or moment as `planning.window` takes it, `policy` one of `starting.POLICIES`; "" for neither. `sites`
    are those to choose from (none: all of the testbed; None: the run's site, or `site`, where the run goes then).
    Nothing is submitted where the site's frontend cannot be logged into.
    """
    before = session.records.unreleased(run=session.run.id)
    if site and not before:
        _move(session, site)
    asked = request(session)
    deadline = Deadline.after(ASK_SECONDS, "the reservation", session.clock)
    latest = None
    login = Login(session.frontend, deadline) if not before and sites is None else None
    if (at or policy or sites is not None) and not before:
        asked, latest = starting.placed(session, asked, at, policy, deadline, sites)
        login = login or Login(session.frontend_of(asked.site), deadline)
    for part in apart(asked):
        _check_roles(session, part, before)
        inventory.check_exists(session.api, part, deadline)
    if login:
        login.check()
    _move(session, asked.site)
    asked, held = starting.submitted(session, asked, latest, deadline)
    return _started(session, held, wait, asked.at)


def _check_roles(session: Session, part: Request, held: Sequence[Record]) -> None:
    """`InvalidUse` when the run holds a job there whose nodes were asked for other roles: it would go on with those."""
    record = next((one for one in held if one.site == part.site and one.roles), None)
    wanted, had = ({role.role: role.count for role in roles} for roles in (part.roles, record.roles if record else ()))
    if record is not None and wanted != had:
        words = [", ".join(f"{count} × {role}" for role, count in roles.items()) for roles in (had, wanted)]
        raise InvalidUse(
            f"run {session.run.id} holds nodes for other roles than its file has now",
            cause=f"on {part.site} it holds {words[0]}; {session.experiment.file.name} says {words[1]}",
            hint=f"{to_paste('release', session.experiment.file)}, then begin anew",
        )


def _move(session: Session, site: str) -> None:
    """Let the run be on another site than was thought; its nodes read what was pushed to the old one from there."""
    if site != session.run.site:
        session.run.set(site=site)


def attach(session: Session, number: int, site: str | None = None, wait: float | None = None) -> dict[str, Any]:
    """Take on a job that exists already, as `reserve` takes one of its own.

    Raises `InvalidUse` when the run has another live job there, and what `reservations.attach` raises.
    """
    place = site or session.run.site
    for record in session.records.unreleased(run=session.run.id):
        if record.site == place and record.job != number:
            raise InvalidUse(
                f"run {session.run.id} has a reservation already: job {record.job or record.name} on {record.site}",
                hint=f"g5kdeploy release --run {session.run.id} ends it",
            )
    if not any(role.site for role in session.experiment.roles.values()):
        _move(session, place)
    deadline = Deadline.after(ASK_SECONDS, f"job {number} on {place}", session.clock)
    parts = {part.site: part for part in apart(request(session))}
    if place not in parts:
        raise InvalidUse(f"no role of the experiment is on {place}", hint=f"its sites are {', '.join(parts)}")
    asked = parts[place]
    before = next((r for r in session.records.unreleased() if (r.site, r.job) == (place, number)), None)
    reservation = reservations.attach(
        session.api, place, number, session.records, deadline, asked.run, asked.experiment, asked.roles
    )
    job = reservation.job
    if before and before.run not in ("", session.run.id):
        session.emit.warn("attach", f"job {number} was of run {before.run} until now: that one holds it no more")
    if "deploy" not in job.types:
        session.emit.note("attach", f"job {number} is not of the type deploy: its nodes keep the standard environment")
    try:
        answer = _started(session, [reservation], wait, float(job.scheduled_at) if job.scheduled_at else None)
    except NoResources as problem:  # it does not suit the roles: it stays whose it was
        record = reservation.record
        if before:
            session.records.save(before)
        else:
            session.records.released(record, f"not taken on: {problem}")
        _keep(session, [])
        raise
    there = {record.site for record in session.records.unreleased(run=session.run.id)}
    for other in parts.keys() - there:
        session.emit.warn("attach", f"the roles on {other} have no job yet: g5kdeploy reserve, or attach one more")
    return answer


def extend(session: Session, seconds: int, wait: float) -> list[Extension]:
    """Ask for more walltime for the run's jobs; what came of it, each.

    The run need not be held: whoever works on it learns the new end from the record.
    """
    found = []
    deadline = Deadline.after(ASK_SECONDS + wait, "the extension", session.clock)
    for record in session.records.unreleased(run=session.run.id):
        held = reservations.resume(session.api, record, session.records, deadline)
        if held is None:
            raise JobOver(f"job {record.job} on {record.site} is gone", cause="the site knows it no more")
        found.append(reservations.extend(session.api, held, seconds, deadline, session.emit, wait))
        _extended(session, found[-1].reservation)
    if not found:
        raise InvalidUse(f"run {session.run.id} holds no job", hint=to_paste("reserve", session.experiment.file))
    return found


def _extended(session: Session, reservation: Reservation) -> None:
    """Note the new end down, where whoever works on the run does not let go of the job at this very time."""
    with contextlib.suppress(Held):
        with session.records.held(session.run.id):
            record = session.records.get(reservation.record.name)
            if record and not record.released and reservation.job.running:
                session.records.known(record, reservation.job)
        with session.run.lock():
            _keep(session, [reservation])


def _started(session: Session, held: Sequence[Reservation], wait: float | None, at: float | None) -> dict[str, Any]:
    """Wait until the jobs run (at most `wait` seconds; default: a day after their start `at`), and share out the nodes."""
    _keep(session, held)
    tell_shorter(session)
    if wait == 0 and not all(one.job.running for one in held):
        session.unfinished = True
        return {"job": held[0].job.id, "state": "; ".join(_told(one) for one in held)}
    if wait is None:
        wait = WAIT_SECONDS + max(0.0, (at or 0.0) - session.clock.wall())
    numbers = ", ".join(str(one.job.id) for one in held)
    patience = Deadline.after(wait, f"the start of job {numbers}", session.clock)
    waits = [one for one in held if not one.job.running and not one.record.foreign]
    bell = doorbell.listen([(session.frontend_of(one.site), one.job.name) for one in waits], patience)
    running = together.start_all(session.api, held, session.records, patience, session.emit, bell)
    _keep(session, running)
    deadline = Deadline.after(ASK_SECONDS, "the nodes of the job", session.clock)
    roles: dict[str, list[str]] = {}
    for one in running:
        roles |= _assign(session, one, deadline)
    jobs = session.run.document()["jobs"]
    got = {name: [item for job in jobs for item in job[name]] for name in ("vlans", "subnets", "disks")}
    answer = {"job": running[0].job.id, "roles": roles, **{name: items for name, items in got.items() if items}}
    return answer | ({"jobs": {job["site"]: job["id"] for job in jobs}} if len(jobs) > 1 else {})


def tell_shorter(session: Session) -> None:
    """Say of a job that was there before that it has less time than is asked for by now: it stays as it is."""
    wanted = session.experiment.walltime
    for job in session.jobs():
        if job["walltime"] < wanted:
            told = f"job {job['id']} on {job['site']} has {human_seconds(job['walltime'])}, not {human_seconds(wanted)}"
            session.emit.warn("reserve", f"{told}: g5kdeploy extend asks for more")


def _told(reservation: Reservation) -> str:
    job = reservation.job
    start = f", predicted start {told(job.scheduled_at)}" if job.scheduled_at else ""
    return f"job {job.id} on {job.site} is {job.state_in_words()}{start}"


def _keep(session: Session, held: Sequence[Reservation]) -> None:
    """Put the jobs into run.json beside those that the run holds already; the run's first is also its `job`."""
    live = {record.name for record in session.records.unreleased(run=session.run.id)}
    before = session.run.document().get("jobs") or []
    jobs = {job["record"]: job for job in before if job["record"] in live}
    jobs |= {one.record.name: _job(one) for one in held}
    session.run.set(job=next(iter(jobs.values()), None), jobs=list(jobs.values()))


def _job(reservation: Reservation) -> dict[str, Any]:
    job = reservation.job
    return {
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
        "vlans": list(job.vlans),
        "subnets": list(job.subnets),
        "disks": list(job.disks),
    }


def _assign(session: Session, reservation: Reservation, deadline: Deadline) -> dict[str, list[str]]:
    roles = reservations.assign(session.api, reservation, deadline)
    described = hardware.hardware(session.api, reservation.nodes, deadline)
    known = session.run.nodes()
    session.run.set_nodes(
        {
            name: {"role": role, "stage": Stage.RESERVED.value, "hardware": described[name]}
            for role, names in roles.items()
            for name in names
            if name not in known
        }
    )
    return {role: list(names) for role, names in roles.items()}


def is_over(session: Session) -> bool:
    """Whether a job of the run has ended (or the site knows it no more): nothing can go on with all its nodes."""
    for job in session.jobs():
        record = session.records.get(job["record"])
        if record is None:
            return True
        deadline = Deadline.after(60, f"the state of job {job['id']}", session.clock)
        found = reservations.resume(session.api, record, session.records, deadline)
        if found is None or found.job.over:
            return True
    return False


def release(session: Session) -> dict[str, Any]:
    """Delete the run's jobs, those too that it cannot know of, and wait until their sites say that they are over.

    A site that does not answer keeps nobody from releasing the others; its problem is raised when they are done.
    """
    released: list[str] = []
    problems: list[Problem] = []
    for record in session.records.unreleased(run=session.run.id):
        deadline = Deadline.after(RELEASE_SECONDS, f"the release on {record.site}", session.clock)
        try:
            done = reservations.release(session.api, record, session.records, deadline, session.emit)
        except Problem as problem:
            problems.append(problem)
        else:
            released.append(done.name)
    if problems:
        for other in problems[1:]:
            session.emit.warn("release", str(other))
        raise problems[0]
    session.run.set(released=True)
    return {"released": released}


def let_go(session: Session) -> None:
    """Ask for the end of the run's jobs where nothing can be written, as on a full disk: they stay on record."""
    for record in session.records.unreleased(run=session.run.id):
        deadline = Deadline.after(RELEASE_SECONDS, f"the release on {record.site}", session.clock)
        try:
            letting_go.end(session.api, record, deadline)
        except Problem as problem:
            session.emit.warn("release", str(problem))
        else:
            session.emit.warn("release", f"{record.site} was asked to end job {record.job or record.name} all the same")
