"""`g5kdeploy run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.base.text import human_seconds
from g5kdeploy.cli import complete, settings
from g5kdeploy.cli.choice import check_left_out, named, without
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.nodes import split
from g5kdeploy.cli.options import (
    exclude_option,
    experiment_argument,
    manifest_option,
    output_option,
    progress_option,
    project_option,
    queue_option,
    run_option,
    runs_option,
    site_option,
    sites_option,
    testbed_option,
    walltime_option,
)
from g5kdeploy.cli.working import on_run
from g5kdeploy.events.failure import ExitCode, InvalidUse
from g5kdeploy.output.documents import listing, render, single
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.experiment import Experiment

BAR = 40  # characters of the longest bar of a histogram


@make(
    "run",
    "Do all phases of an experiment: build, vmtest, push, reserve, deploy, check, bench, collect, report, release. A run that "
    "was interrupted goes on where it stopped. When a phase fails, what was measured is brought back and the nodes are let go, "
    "unless --keep says otherwise.",
    "g5kdeploy run composition/statx/experiment.yaml --testbed lab\n"
    "g5kdeploy run composition/statx/experiment.yaml --testbed lab --until deploy --keep\n"
    "g5kdeploy run composition/statx/experiment.yaml --testbed grid5000 --site rennes --sites rennes,nancy",
)
@experiment_argument
@click.option("--phases", default=None, metavar="LIST", help="Only these, parted by commas.")
@click.option(
    "--from", "first", default=None, metavar="PHASE", shell_complete=complete.phases, help="Begin with this one."
)
@click.option(
    "--until", "last", default=None, metavar="PHASE", shell_complete=complete.phases, help="End with this one."
)
@manifest_option
@click.option("--keep", is_flag=True, help="Do not give the nodes back.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@testbed_option
@site_option
@sites_option
@exclude_option
@walltime_option
@queue_option
@project_option
@run_option
@runs_option
@output_option
@progress_option
def command(
    screen: Screen,
    experiment: Path,
    phases: str | None,
    first: str | None,
    last: str | None,
    manifest: Path | None,
    keep: bool,
    dry_run: bool,
    testbed: str | None,
    sites: str | None,
    exclude_nodes: str | None,
    run_id: str | None,
    runs: Path | None,
    output: str | None,
    progress: str,
    **flags: Any,
) -> ExitCode:
    """All phases in their order."""
    from g5kdeploy.workflow import chain, handing, reporting, reserving

    form = settings.get("output", output)
    told = without(settings.experiment_of(experiment, testbed=testbed, **flags), exclude_nodes)
    places = named(sites)
    names = chain.chosen(None if phases is None else split(phases, "--phases"), first, last)
    if manifest:
        names = [name for name in names if name not in handing.DONE_ELSEWHERE]
    if dry_run:
        screen.answer(_plan(told, names, keep, places), form, ("phase", "what"))
        return ExitCode.DONE
    with on_run(screen, told, progress, run_id, runs, new=True, phases=names) as session:
        if manifest:
            handing.adopt(session, manifest.absolute())
        if "reserve" in names:
            check_left_out(session.api, exclude_nodes)  # not only when everything is built
        works = {} if places is None else {"reserve": lambda session: reserving.reserve(session, sites=places)}
        code = chain.run(session, names, keep=keep, works=works)
        result = reporting.summary(session)
    if form in ("table", "wide"):
        print(words(result), file=screen.out)
    else:
        screen.answer(single("RunSummary", **result), form)
    return code


def _plan(experiment: Experiment, names: list[str], keep: bool, sites: list[str] | None) -> dict[str, Any]:
    """What each phase would do, from the experiment file and the flags alone."""
    if experiment.testbed is None:
        raise InvalidUse("no testbed was named", hint="--testbed lab or --testbed grid5000")
    nodes = ", ".join(f"{role.nodes} × {name}" for name, role in experiment.roles.items())
    bench, script = experiment.benchmark, experiment.test_script
    first = experiment.environment if "deploy" in experiment.job_types else "the standard environment by sudo-g5k"
    images = experiment.flavour == "g5k-image"
    what = {
        "build": f"closures of {', '.join(experiment.roles)} from {experiment.composition}",
        "vmtest": f"{script.name} on local machines, {nodes}"
        if script
        else "nothing: the composition has no test script",
        "push": f"{'images' if images else 'closures and bundle'} to ~/public on the frontend",
        "reserve": f"{nodes} for {human_seconds(experiment.walltime)}, queue {experiment.queue}, types "
        f"{', '.join(experiment.job_types)}, on testbed {experiment.testbed}{_places(sites)}",
        "deploy": "each role's image by kadeploy" if images else f"{first}, then each role's closure by kexec",
        "check": f"{script.name} on the nodes" if script else "nothing: the composition has no test script",
        "bench": f"`{bench.command}` on {bench.role}, scraped every {bench.scrape_interval:g} s"
        if bench
        else "nothing",
        "collect": "samples, journals, consoles, files",
        "report": "report.html",
        "release": "nothing: --keep" if keep else "the job is deleted",
    }
    return listing("RunPlan", [{"phase": name, "what": what[name]} for name in names])


def _places(sites: list[str] | None) -> str:
    """Where the roles may go that name no site, as --sites says it."""
    if sites is None:
        return ""
    return f", at {' or '.join(sites) or 'any site'}, whichever can be had first"


def words(result: dict[str, Any]) -> str:
    """The summary for people: phases, nodes, what was counted, the workload's histogram, where the report is."""
    phases = [
        {
            "phase": one["phase"],
            "state": one["state"],
            "duration": human_seconds(one["seconds"]) if one["seconds"] is not None else "",
            "detail": one["detail"],
        }
        for one in result["phases"]
    ]
    parts = [render(listing("Phases", phases)), f"together {human_seconds(result['total'])}"]
    if result["nodes"]:
        nodes = [
            {
                "node": node["name"],
                "role": node["role"],
                "kernel": f"{node['before'] or '?'} → {node['after'] or '?'}",
                "store_path": node["system"],
                "state": f"lost: {node['lost']}" if node["lost"] else node["stage"],
            }
            for node in result["nodes"]
        ]
        parts.append(render(listing("Nodes", nodes)))
    if result["samples"] or any(one["phase"] == "collect" for one in phases):
        parts.append(f"{result['samples']} samples collected")
    parts += [f"{node} said: {_pairs(said)}" for node, said in result["workload"].items()]
    parts += [f"{one['metric']} grew by {one['increase']:.15g} on {one['node']}" for one in result["counters"]]
    parts += [_histogram(one) for one in result["histograms"]]
    parts += [f"warning: {warning}" for warning in result["warnings"]]
    if result["report"]:
        parts.append(f"report: {result['report']}")
    return "\n\n".join(parts)


def _pairs(said: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in said.items())


def _histogram(one: dict[str, Any]) -> str:
    lines = [f"{one['metric']} of the workload on {one['node']}: {one['count']:.0f} observations, mean {one['mean']}"]
    most = max((count for _, _, count in one["rows"]), default=0)
    for low, high, count in one["rows"]:
        bar = "█" * round(BAR * count / most) if most else ""
        lines.append(f"  {low:>10} … {high:<10} {count:>10.0f} {bar}")
    return "\n".join(lines)
