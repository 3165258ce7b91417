"""`g5kdeploy gc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli import settings
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import output_option, testbed_option
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.testbed.job import Job
    from g5kdeploy.testbed.records import Record

SECONDS = 300.0


@make(
    "gc",
    "Tidy up a testbed: close the records here whose jobs are over, and list the live jobs that this tool made and that no "
    "record here knows. Those may belong to another machine of yours, so they are only let go of with --yes.\n\n"
    "With JOB, a name or number of `status --mine`, only that job is let go of, also when its experiment or run is gone.",
    "g5kdeploy gc --testbed lab\ng5kdeploy gc --testbed grid5000 --yes\ng5kdeploy gc --testbed grid5000 1965464",
)
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("-y", "--yes", is_flag=True, help="Delete the jobs that no record here knows.")
@testbed_option
@output_option
def command(screen: Screen, jobs: tuple[str, ...], yes: bool, testbed: str | None, output: str | None) -> ExitCode:
    """Records closed, jobs that nobody knows."""
    from g5kdeploy.testbed import leftovers, places
    from g5kdeploy.testbed.records import Records

    form = settings.get("output", output)
    named = settings.named_testbed(testbed)
    records = Records(named)
    emit = screen.emitter()
    with places.connect(places.find(named), emit) as api:
        deadline = Deadline.after(SECONDS, "tidying up", api.clock)
        if jobs:
            found = leftovers.Leftovers((), (), tuple(leftovers.named(api, jobs, records, deadline)), ())
        else:
            found = leftovers.tidy(api, records, deadline)
        items = [_record(record, f"record closed: {record.outcome}") for record in found.closed]
        for one in found.strays:
            if yes or jobs:
                done = leftovers.let_go(api, one, records, deadline, emit)
                what = f"let go: {done.outcome}"
                items.append(_job(one.job, what) if one.job else _record(done, what))
            elif one.job:
                items.append(_job(one.job, f"{one.words}, on no record here"))
    for words in found.silent:
        screen.warn(f"no answer from {words}")
    if found.strays and not (yes or jobs):
        screen.say("g5kdeploy gc --yes deletes the jobs that no record here knows")
    if not items:
        kept = f"; {len(found.kept)} reservations are live: g5kdeploy gc JOB lets go of one" if found.kept else ""
        screen.say(f"nothing to tidy up{kept}")
    if items or form not in ("table", "wide", "name"):
        screen.answer(
            listing("Leftovers", items, testbed=named, unanswered=list(found.silent)),
            form,
            ("name", "site", "job", "what"),
        )
    return ExitCode.PARTLY if found.silent else ExitCode.DONE


def _record(record: Record, what: str) -> dict[str, Any]:
    return {"name": record.name, "site": record.site, "job": record.job, "what": what, "run": record.run}


def _job(job: Job, what: str) -> dict[str, Any]:
    return {"name": job.name, "site": job.site, "job": job.id, "what": what, "run": ""}
