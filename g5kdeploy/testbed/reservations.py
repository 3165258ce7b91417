"""Reserve, find again, attach; with `waiting`, `letting_go` and `walltime`, all that can be done with a job."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import human_seconds
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import InvalidUse, NoResources, NotAllowed
from g5kdeploy.testbed import lookup, texts
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.letting_go import confirm, release, unanswered
from g5kdeploy.testbed.lookup import Reservation
from g5kdeploy.testbed.problems import ApiProblem, NotThere, Refused, Unclear
from g5kdeploy.testbed.records import Record, Records, RecordState
from g5kdeploy.testbed.request import Request, RoleNodes, check, from_paris, payload, told
from g5kdeploy.testbed.roles import assign
from g5kdeploy.testbed.waiting import wait_running
from g5kdeploy.testbed.walltime import extend

__all__ = ["Reservation", "assign", "attach", "extend", "release", "reserve", "resume", "wait_running"]

_SETTLE = 20.0  # seconds within which a submission whose answer was lost should show as a job
_SUBMISSIONS = 2


def reserve(api: Api, request: Request, records: Records, deadline: Deadline, emit: Emitter) -> Reservation:
    """Submit the job, or find it again when an earlier call with the same run did; does not wait for its start.

    Raises `NoResources` when the site refuses (in sentences), `NotAllowed`, `ApiProblem` when it is unreachable.
    """
    check(request)
    with contextlib.ExitStack() as stack:
        if request.run:
            stack.enter_context(records.held(request.run))
        what = f"{request.count} {'node' if request.count == 1 else 'nodes'} on {request.site}"
        detail = f"{what} for {human_seconds(request.walltime)}"
        end = stack.enter_context(emit.step("reserve", detail=detail))
        record = records.of(request)
        if record is not None:
            reservation, record = _again(api, record, records, deadline, emit)
            if reservation is not None:
                end.text = f"job {reservation.job.id} again, {reservation.job.state_in_words()}"
                return reservation
        record = record or records.ask(request, api.uri)
        reservation = _submit(api, request, record, records, deadline, emit)
        end.text = f"job {reservation.job.id}: {detail}"
    for notice in reservation.job.notices():
        emit.note("notice of the site", notice)
    return reservation


def _again(
    api: Api, record: Record, records: Records, deadline: Deadline, emit: Emitter
) -> tuple[Reservation | None, Record | None]:
    """What became of an earlier request: its job; or the record to ask with again; or neither, when its job is over."""
    jobs = lookup.jobs_of(api, record, deadline)
    if not jobs and record.state is RecordState.ASKED:
        emit.note("reserve", "an earlier request was never answered; looking for its job by name")
        jobs = unanswered(api, record, records, deadline)
        if not jobs:
            return None, records.save(replace(record, asked_at=records.clock.wall()))
    for job in jobs:
        if not job.ending:
            return Reservation(records.known(record, job), job), record
    why = confirm(api, record, jobs, deadline)
    emit.note("reserve", f"an earlier reservation of this run is over: {why}")
    records.released(record, why)
    return None, None


def _submit(
    api: Api, request: Request, record: Record, records: Records, deadline: Deadline, emit: Emitter
) -> Reservation:
    """Send the request; after a lost answer, look for the job by name before sending it once more."""
    body = payload(request, record.name)
    for submission in range(1, _SUBMISSIONS + 1):
        try:
            job = Job.from_document(request.site, api.post(f"/sites/{request.site}/jobs", body, deadline))
        except Unclear as unclear:
            emit.warn("reserve", f"{unclear.cause or unclear.what}; looking for the job by its name {record.name}")
            found = _look(api, record, deadline)
            if found is None and submission == _SUBMISSIONS:
                raise ApiProblem(
                    f"the site {request.site} does not say whether it took the reservation",
                    cause=f"{unclear.cause or unclear.what}; no job named {record.name} was found afterwards",
                    hint="the same command looks for the job again; g5kdeploy release lets it go if it appears",
                    url=unclear.url,
                    status=unclear.status,
                ) from unclear
            if found is None:
                continue
            job = found
        except NotAllowed as problem:
            records.released(record, f"not allowed: {problem}")
            raise
        except ApiProblem as problem:
            records.released(record, f"refused or never sent: {problem}")
            raise _refusal(request, problem) from problem
        if job.over:  # a refused advance reservation leaves a job behind that is in error from the start
            records.released(record, job.message)
            raise _refused(request, texts.refusal(job.message))
        reservation = Reservation(records.known(record, job), job)
        if submission > 1:
            _drop_twins(api, reservation, deadline, emit)
        return reservation
    raise AssertionError("a submission ends with a job or an error")


def _look(api: Api, record: Record, deadline: Deadline) -> Job | None:
    """The job that a lost answer was about, if it shows up in time; it may still be on its way to the scheduler."""
    patience = deadline.within(_SETTLE, f"a job named {record.name}")
    pause = 0.5
    while True:
        try:
            if jobs := lookup.named(api, record.site, record.name, deadline):
                return jobs[0]
        except ApiProblem as problem:
            if not problem.passing:
                raise
        if patience.remaining() <= pause:
            return None
        patience.sleep(pause)
        pause = min(2 * pause, 5.0)


def _drop_twins(api: Api, kept: Reservation, deadline: Deadline, emit: Emitter) -> None:
    """Let go of a first submission that turns up after the second one was taken."""
    for twin in lookup.named(api, kept.site, kept.record.name, deadline):
        if twin.id != kept.job.id and not twin.over:
            emit.warn("reserve", f"the lost submission arrived as well, as job {twin.id}: deleting that one")
            api.delete(f"/sites/{kept.site}/jobs/{twin.id}", deadline)


def _refusal(request: Request, problem: ApiProblem) -> Exception:
    """A definite no as the error it is: refused by the site, or something else altogether."""
    if isinstance(problem, NotThere):
        return InvalidUse(f"the testbed has no site {request.site!r}", cause=problem.cause)
    message = texts.oar_message(problem.body)
    if message is not None:
        return _refused(request, texts.refusal(message))
    if problem.status == 400:
        return NoResources(f"the site {request.site} refuses the reservation", cause=problem.cause)
    return problem


def _refused(request: Request, refusal: texts.Refusal) -> Refused:
    hint = "ask for fewer nodes, another cluster or another time"
    if refusal.could_run_at:
        hint = f"reserve with a start at {refusal.could_run_at} (Paris time) or later"
    elif request.at is not None:
        hint = f"the start asked for was {told(request.at)}"
    cause = refusal.reason
    if refusal.notices:
        cause += f" ({'; '.join(refusal.notices)})"
    could = from_paris(refusal.could_run_at) if refusal.could_run_at else None
    return Refused(f"the site {request.site} refuses the reservation", cause=cause, hint=hint, could_run_at=could)


def resume(api: Api, record: Record, records: Records, deadline: Deadline) -> Reservation | None:
    """The job of a record as it is now, looked up by id or by name; None when the site knows none."""
    jobs = lookup.jobs_of(api, record, deadline)
    if not jobs:
        return None
    job = next((job for job in jobs if not job.over), jobs[-1])
    if not record.released and record.job != job.id:
        record = records.known(record, job)
    return Reservation(record, job)


def attach(
    api: Api,
    site: str,
    job: int,
    records: Records,
    deadline: Deadline,
    run: str = "",
    experiment: str = "",
    roles: tuple[RoleNodes, ...] = (),
) -> Reservation:
    """Take on a job that something else made, or that we made on another machine, for a run and its roles.

    A job that is on record already changes hands. Raises `InvalidUse` when the site has no such job, `NoResources` when
    it is over, `NotAllowed` when it is another's.
    """
    try:
        found = lookup.job(api, site, job, deadline)
    except NotThere as problem:
        raise InvalidUse(f"there is no job {job} on {site}", cause=problem.cause) from problem
    me = api.me(deadline)
    if found.user and me and found.user.lower() != me.lower():
        raise NotAllowed(f"job {job} on {site} belongs to {found.user}", cause=f"you are {me}")
    if found.ending:
        raise NoResources(f"job {job} on {site} is {'over' if found.over else 'being ended'}", cause=found.reason())
    given: dict[str, Any] = {"run": run, "experiment": experiment, "roles": roles}
    given = {key: value for key, value in given.items() if value}
    for record in records.unreleased():
        if record.site == site and (record.job == job or record.name == found.name):
            return Reservation(records.save(replace(record, state=RecordState.KNOWN, job=job, **given)), found)
    record = Record(
        name=f"attached-{site}-{job}",
        testbed=records.testbed,
        uri=api.uri,
        site=site,
        state=RecordState.KNOWN,
        asked_at=records.clock.wall(),
        job=job,
        run=run,
        experiment=experiment,
        roles=roles,
        foreign=True,
    )
    return Reservation(records.save(record), found)
