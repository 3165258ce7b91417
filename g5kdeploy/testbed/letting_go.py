"""Release: deleted, and confirmed by the site; also what was never answered and what has vanished."""

from __future__ import annotations

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import NotAllowed, TimeOver
from g5kdeploy.testbed import lookup
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.problems import ApiProblem, NotThere
from g5kdeploy.testbed.records import Record, Records, RecordState

UNANSWERED = 30.0  # seconds after asking, within which a job whose answer nobody heard should have shown up
_POLLS = (0.3, 0.5, 1.0, 2.0, 3.0)  # seconds between looks, the last one over and over


def release(api: Api, record: Record, records: Records, deadline: Deadline, emit: Emitter) -> Record:
    """Delete the job (all that carry its name) and wait until the site says it is over; may be repeated at any time.

    Raises `TimeOver` when the site does not confirm in time, `ApiProblem` when it is unreachable; the record stays.
    """
    with records.held(record.run or record.name), emit.step("release", detail=_name(record)) as end:
        record = records.get(record.name) or record
        if record.released:
            end.text = f"{_name(record)} was released before"
            return record
        jobs = lookup.jobs_of(api, record, deadline, all_of_them=True)
        if not jobs and record.state is RecordState.ASKED:
            jobs = unanswered(api, record, records, deadline)
        for job in jobs:
            if not job.over:
                _delete(api, job, deadline)
        outcome = confirm(api, record, jobs, deadline)
        end.text = outcome
        return records.released(record, outcome)


def end(api: Api, record: Record, deadline: Deadline) -> None:
    """Ask for the end of all jobs that carry its name, and write nothing down: for a machine that cannot."""
    for job in lookup.jobs_of(api, record, deadline, all_of_them=True):
        if not job.over:
            _delete(api, job, deadline)


def _name(record: Record) -> str:
    return f"job {record.job} on {record.site}" if record.job else f"the request {record.name} on {record.site}"


def unanswered(api: Api, record: Record, records: Records, deadline: Deadline) -> list[Job]:
    """The jobs of a request whose answer nobody heard; it may still be on its way, so this looks for a while."""
    while True:
        if jobs := lookup.named(api, record.site, record.name, deadline):
            return jobs
        left = record.asked_at + UNANSWERED - records.clock.wall()
        if left <= 0:
            return []
        deadline.sleep(min(3.0, left), f"no job named {record.name} yet")


def _delete(api: Api, job: Job, deadline: Deadline) -> None:
    """Ask for a job's end; that it is already ending is no error."""
    try:
        api.delete(f"/sites/{job.site}/jobs/{job.id}", deadline)
    except NotThere:
        return
    except ApiProblem as problem:
        said = problem.cause + problem.body
        if "already killed" in said:
            return
        if "not the right user" in said:
            raise NotAllowed(f"job {job.id} on {job.site} belongs to {job.user}", cause=problem.cause) from problem
        raise


def confirm(api: Api, record: Record, jobs: list[Job], deadline: Deadline) -> str:
    """Wait until all of them are over, and say in words what became of them."""
    if not jobs:
        return "the site knows no job of it" if record.job is None else f"the site no longer knows job {record.job}"
    words: dict[int, str] = {job.id: f"job {job.id}: {job.reason()}" for job in jobs if job.over}
    polls = iter(_POLLS)
    while pending := [job for job in jobs if job.id not in words]:
        pause = next(polls, _POLLS[-1])
        if deadline.remaining() <= pause:
            numbers = ", ".join(str(job.id) for job in pending)
            raise TimeOver(
                f"the site {record.site} was asked to end job {numbers} and has not confirmed it",
                cause=f"it is still {pending[0].state_in_words()}",
                hint="g5kdeploy release asks again; g5kdeploy status --mine shows what is left",
            )
        deadline.sleep(pause)
        for job in pending:
            try:
                now = lookup.job(api, job.site, job.id, deadline)
            except NotThere:
                words[job.id] = f"job {job.id}: the site no longer knows it"
                continue
            if now.over:
                words[job.id] = f"job {job.id} on {job.site}: {now.reason()}"
    return "; ".join(words[job.id] for job in jobs)
