"""`g5kdeploy status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli import settings
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import output_option, testbed_option
from g5kdeploy.cli.settings import TESTBEDS
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.testbed.inventory import Mine
    from g5kdeploy.testbed.records import Record

SECONDS = 60.0


@make(
    "status",
    "Show the sites of a testbed and how many nodes are free; with --mine your jobs on all its sites, joined with the "
    "reservations on record here. Without --testbed, --mine asks the lab if one runs, and shows what is on record for "
    "Grid'5000 without asking it.",
    "g5kdeploy status --testbed lab\ng5kdeploy status --mine -o json",
)
@click.option("--mine", is_flag=True, help="Your own jobs, and what is on record of them.")
@testbed_option
@output_option
def command(screen: Screen, mine: bool, testbed: str | None, output: str | None) -> ExitCode:
    """Sites, or what is ours."""
    form = settings.get("output", output)
    if mine:
        return _mine(screen, settings.get("testbed", testbed), form)
    from g5kdeploy.testbed import inventory, places

    named = settings.named_testbed(testbed, "; or --mine")
    with places.connect(places.find(named)) as api:
        sites = inventory.status(api, Deadline.after(SECONDS, f"the status of {named}"))
    items = [
        {
            "name": site.site,
            "nodes": site.nodes,
            "free": site.free,
            "busy": site.busy,
            "unusable": site.unusable,
            "problem": site.problem,
        }
        for site in sites
    ]
    screen.answer(
        listing("Sites", items, testbed=named), form, ("name", "nodes", "free", "busy", "unusable", "problem")
    )
    if sites and all(site.problem for site in sites):
        return ExitCode.FAILED
    return ExitCode.PARTLY if any(site.problem for site in sites) else ExitCode.DONE


def _mine(screen: Screen, named: str | None, form: str) -> ExitCode:
    """What is ours on the testbed that was named, or else on the lab; a testbed that is not asked is told from disk."""
    from g5kdeploy.testbed import inventory, places
    from g5kdeploy.testbed.records import Records

    items: list[dict[str, Any]] = []
    unasked: list[str] = []
    for testbed in (named,) if named else TESTBEDS:
        records = Records(testbed)
        asked = lab_runs() if testbed == places.LAB else named is not None
        if not asked:
            if testbed == places.LAB:
                screen.say("no lab runs here")
            items += [_recorded(record) for record in records.unreleased()]
            continue
        with places.connect(places.find(testbed)) as api:
            found, silent = inventory.mine(api, records, Deadline.after(SECONDS, f"your jobs on {testbed}"))
        items += [_asked(testbed, one) for one in found]
        unasked += [f"{testbed}: {site}" for site in silent]
    for words in unasked:
        screen.warn(f"no answer from {words}")
    if not items:
        screen.say("nothing is reserved, and nothing is on record")
    columns = ("name", "testbed", "site", "job", "state", "starts", "ends", "nodes", "vlans")
    if items or form not in ("table", "wide", "name"):
        screen.answer(listing("Jobs", items, unanswered=unasked), form, columns)
    return ExitCode.PARTLY if unasked else ExitCode.DONE


def lab_runs() -> bool:
    """Whether the lab's own process is alive; its credentials outlive it."""
    from g5kdeploy.lab import control
    from g5kdeploy.lab.settings import Places

    return control.status(Places.default()) is not None


def _asked(testbed: str, one: Mine) -> dict[str, Any]:
    job, record = one.job, one.record
    return {
        "name": job.name if job else record.name if record else "",
        "testbed": testbed,
        "site": one.site,
        "job": job.id if job else record.job if record else None,
        "state": one.words,
        "starts": _moment(job.started_at or job.scheduled_at) if job else "",
        "ends": _moment(job.ends_at) if job else "",
        "nodes": list(job.nodes) if job else [],
        "vlans": list(job.vlans) if job else [],
        "subnets": list(job.subnets) if job else [],
        "disks": list(job.disks) if job else [],
        "run": record.run if record else "",
        "experiment": record.experiment if record else "",
    }


def _recorded(record: Record) -> dict[str, Any]:
    return {
        "name": record.name,
        "testbed": record.testbed,
        "site": record.site,
        "job": record.job,
        "state": f"on record ({record.state.value}), not asked",
        "starts": "",
        "ends": "",
        "nodes": [],
        "vlans": list(record.vlans),
        "subnets": list(record.subnets),
        "disks": list(record.disks),
        "run": record.run,
        "experiment": record.experiment,
    }


def _moment(at: float | None) -> str:
    from g5kdeploy.testbed.request import told

    return told(at) if at else ""
