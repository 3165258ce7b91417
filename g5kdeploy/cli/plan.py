"""`g5kdeploy plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli import settings
from g5kdeploy.cli.choice import check_left_out, named, without
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import (
    exclude_option,
    experiment_argument,
    output_option,
    queue_option,
    site_option,
    sites_option,
    testbed_option,
    walltime_option,
)
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.testbed.planning import Option, Plan

SECONDS = 120.0
COLUMNS = ("name", "nodes", "start", "policy", "notes")


@make(
    "plan",
    "Show where and when the experiment's nodes could be had: each cluster of the sites with its earliest start, and what the "
    "usage policy says of it. Nothing is reserved. Exit code 6 when there is no way.",
    "g5kdeploy plan composition/statx/experiment.yaml --testbed grid5000 --sites rennes,nancy --at night\n"
    "g5kdeploy plan composition/statx/experiment.yaml --testbed lab -o json",
)
@experiment_argument
@sites_option
@exclude_option
@click.option(
    "--at",
    default="earliest",
    show_default=True,
    metavar="WHEN",
    help="When to start: now, earliest, night, weekend or YYYY-MM-DD HH:MM.",
)
@site_option
@walltime_option
@queue_option
@testbed_option
@output_option
def command(
    screen: Screen,
    experiment: Path,
    sites: str | None,
    exclude_nodes: str | None,
    at: str,
    testbed: str | None,
    output: str | None,
    **flags: Any,
) -> ExitCode:
    """The options, best first."""
    from g5kdeploy.runs import runs_folder, unreleased
    from g5kdeploy.testbed import places, planning
    from g5kdeploy.workflow import chain, starting

    form = settings.get("output", output)
    told = without(settings.experiment_of(experiment, testbed=testbed, **flags), exclude_nodes)
    homes = named(sites)
    chosen = chain.testbed_of(told)
    default = told.site or (places.LAB if chosen.name == places.LAB else "")
    if homes is None:
        homes = [default] if default else []
    begun = unreleased(runs_folder(told.file, settings.runs()), told.file)
    platform = starting.platform(begun[0].manifest_file) if begun else planning.PLATFORM
    with places.connect(chosen) as api:
        check_left_out(api, exclude_nodes)
        window = planning.window(at, told.walltime, api.clock.wall())
        deadline = Deadline.after(SECONDS, "the plan", api.clock)
        land = planning.look(api, starting.sites_of(told, homes), deadline, starting.pinned(told))
    found = planning.plan_sites(land, starting.wish(told, platform), window, homes or [*land.nodes])
    for site, trouble in land.troubles.items():
        screen.warn(f"{site} does not answer: {trouble}")
    if not found.options:
        raise starting.nothing(found, at)
    screen.answer(document(found, chosen.name, at), form, COLUMNS)
    return ExitCode.DONE


def document(found: Plan, testbed: str, at: str) -> dict[str, Any]:
    """The plan as a document; times in unix seconds and in words."""
    without = [{"site": site, "cluster": cluster, "why": why} for site, cluster, why in found.without]
    return listing("Plan", [_item(option) for option in found.options], testbed=testbed, at=at, without=without)


def _item(option: Option) -> dict[str, Any]:
    from g5kdeploy.testbed.request import told

    return {
        "name": option.name,
        "site": option.site,
        "cluster": option.cluster,
        "nodes": len(option.nodes),
        "start": told(option.start),
        "policy": f"{'yes' if option.verdict.allowed else 'no'}: {option.verdict.why}",
        "notes": "; ".join(option.notes),
        "allowed": option.verdict.allowed,
        "why": option.verdict.why,
        "start_at": round(option.start),
        "allowed_at": None if option.allowed is None else round(option.allowed),
        "standby": option.standby,
        "evicted": option.evicted,
        "node_names": list(option.nodes),
    }
