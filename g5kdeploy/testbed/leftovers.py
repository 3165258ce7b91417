"""What earlier work left behind: records whose jobs are over, and jobs of this tool that no record here knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.files import Held
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed import inventory, lookup, reservations
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.letting_go import UNANSWERED, confirm, release
from g5kdeploy.testbed.records import PREFIX, Record, Records, RecordState
from g5kdeploy.testbed.request import ORIGIN


@dataclass(frozen=True)
class Leftovers:
    """`closed`: records whose jobs are over, closed just now. `kept`: records whose jobs still live, or are under work.

    `strays`: live jobs that this tool made and that no record here knows, perhaps because another machine has it.
    `silent`: sites that could not be asked, with the reason.
    """

    closed: tuple[Record, ...]
    kept: tuple[Record, ...]
    strays: tuple[inventory.Mine, ...]
    silent: tuple[str, ...]


def tidy(api: Api, records: Records, deadline: Deadline) -> Leftovers:
    """Close the records whose jobs are over, and find the jobs that none knows. No job is touched."""
    closed: list[Record] = []
    kept: list[Record] = []
    silent: list[str] = []
    for record in records.unreleased():
        try:
            now = _settled(api, record, records, deadline)
        except Held:
            kept.append(record)
        except Problem as problem:
            silent.append(f"{record.site}: {problem}")
        else:
            (closed if now.released else kept).append(now)
    found, dead = inventory.mine(api, records, deadline)
    strays = tuple(one for one in found if one.job and one.record is None and is_ours(one.job))
    return Leftovers(tuple(closed), tuple(kept), strays, tuple(dict.fromkeys([*silent, *dead])))


def is_ours(job: Job) -> bool:
    """Whether this tool made it, by its name or its type; one that is ending already does not count."""
    return not job.ending and (job.name.startswith(PREFIX) or ORIGIN in job.types)


def named(api: Api, words: Iterable[str], records: Records, deadline: Deadline) -> list[inventory.Mine]:
    """The live jobs, and the records of some, that are meant by names or numbers; `InvalidUse` for what means none, or two."""
    mine, silent = inventory.mine(api, records, deadline)
    found: list[inventory.Mine] = []
    for word in words:
        meant = [one for one in mine if word in _names(one)]
        if not meant:
            told = "; ".join(f"no answer from {site}" for site in silent)
            raise InvalidUse(
                f"you have no job {word}", cause=told, hint="g5kdeploy status --mine shows those that you have"
            )
        if len(meant) > 1:
            sites = ", ".join(f"{one.job.name} on {one.site}" for one in meant if one.job)
            raise InvalidUse(f"you have several jobs {word}", cause=sites, hint="say which one by its name")
        found += [one for one in meant if one not in found]
    return found


def _names(one: inventory.Mine) -> set[str]:
    """What it may be called: by the job's number and name, by the record's."""
    words: list[object] = [one.job.id, one.job.name] if one.job else []
    words += [one.record.job, one.record.name] if one.record else []
    return {str(word) for word in words if word}


def _settled(api: Api, record: Record, records: Records, deadline: Deadline) -> Record:
    """The record, closed if nothing lives of it any more."""
    with records.held(record.run or record.name):
        record = records.get(record.name) or record
        jobs = lookup.jobs_of(api, record, deadline, all_of_them=True)
        fresh = record.state is RecordState.ASKED and records.clock.wall() - record.asked_at < UNANSWERED
        if record.released or any(not job.over for job in jobs) or (fresh and not jobs):
            return record
        return records.released(record, confirm(api, record, jobs, deadline))


def let_go(api: Api, one: inventory.Mine, records: Records, deadline: Deadline, emit: Emitter) -> Record:
    """Delete a job; one that no record knows is put on record first, so that a kill in between forgets nothing."""
    record = one.record
    if record is None:
        assert one.job is not None
        record = reservations.attach(api, one.site, one.job.id, records, deadline).record
    return release(api, record, records, deadline, emit)
