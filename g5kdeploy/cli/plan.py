"""`g5kdeploy plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli import settings
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import (
    experiment_argument,
    output_option,
    queue_option,
    site_option,
    testbed_option,
    walltime_option,
)
from g5kdeploy.events.failure import ExitCode, InvalidUse
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
@click.option("--sites", default=None, metavar="NAMES", help="Sites, with commas, or all [default: the experiment's].")
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
    screen: Screen, experiment: Path, sites: str | None, at: str, testbed: str | None, output: str | None, **flags: Any
) -> ExitCode:
    """The options, best first."""
    from g5kdeploy.testbed import places, planning
    from g5kdeploy.workflow import chain, starting

    form = settings.get("output", output)
    told = settings.experiment_of(experiment, testbed=testbed, **flags)
    chosen = chain.testbed_of(told)
    wanted = _sites(sites, told.site or (places.LAB if chosen.name == places.LAB else ""))
    with places.connect(chosen) as api:
        window = planning.window(at, told.walltime, api.clock.wall())
        deadline = Deadline.after(SECONDS, "the plan", api.clock)
        land = planning.look(api, wanted, deadline, starting.pinned(told))
    found = planning.plan(land, starting.wish(told), window)
    for site, trouble in land.troubles.items():
        screen.warn(f"{site} does not answer: {trouble}")
    if not found.options:
        raise starting.nothing(found, at)
    screen.answer(document(found, chosen.name, at), form, COLUMNS)
    return ExitCode.DONE


def _sites(text: str | None, default: str) -> list[str]:
    """The sites that are meant; none named: all."""
    if text is None:
        return [default] if default else []
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InvalidUse("--sites names no site", hint="--sites rennes,nancy or --sites all")
    return [] if names == ["all"] else names


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
        "start_at": option.start,
        "allowed_at": option.allowed,
        "standby": option.standby,
        "evicted": option.evicted,
        "node_names": list(option.nodes),
    }
