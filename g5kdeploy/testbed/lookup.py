"""Finding a record's jobs again: by the id that was answered, and by the name that only they carry."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.problems import NotThere
from g5kdeploy.testbed.records import Record


@dataclass(frozen=True)
class Reservation:
    """A job and its record."""

    record: Record
    job: Job

    @property
    def site(self) -> str:
        return self.job.site

    @property
    def nodes(self) -> tuple[str, ...]:
        """Full names, sorted; empty until the job runs."""
        return self.job.nodes


def job(api: Api, site: str, number: int, deadline: Deadline) -> Job:
    """One job as it is now; `NotThere` when the site does not know it."""
    return Job.from_document(site, api.get(f"/sites/{site}/jobs/{number}", deadline))


def named(api: Api, site: str, name: str, deadline: Deadline) -> list[Job]:
    """All jobs that carry a name, the oldest first."""
    items = api.items(f"/sites/{site}/jobs", deadline, name=name)
    return [job(api, site, int(item["uid"]), deadline) for item in sorted(items, key=lambda item: int(item["uid"]))]


def jobs_of(api: Api, record: Record, deadline: Deadline, *, all_of_them: bool = False) -> list[Job]:
    """A record's jobs as they are now, the oldest first; none when the site knows none.

    There is more than one only when a submission whose answer was lost was sent again and both arrived; `all_of_them`
    looks for those too.
    """
    found: dict[int, Job] = {}
    if record.job is not None:
        with contextlib.suppress(NotThere):
            found[record.job] = job(api, record.site, record.job, deadline)
    if not record.foreign and (all_of_them or not found):
        found.update({other.id: other for other in named(api, record.site, record.name, deadline)})
    return [found[number] for number in sorted(found)]
