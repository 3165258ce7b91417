"""`g5kdeploy attach JOB` and `g5kdeploy extend +TIME`: the job of a run, beyond reserving and releasing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.cli import settings, times
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import (
    experiment_argument,
    output_option,
    progress_option,
    run_option,
    runs_option,
    site_option,
    testbed_option,
)
from g5kdeploy.cli.working import on_run
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.output.documents import listing, single
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.testbed.walltime import Extension

wait_option = click.option(
    "--wait", default=None, metavar="TIME", help="Wait at most so long for the job's start [default: 24h]."
)


@make(
    "attach",
    "Make JOB, a job that exists already, the reservation of the experiment's run: one that this tool made on another "
    "machine, that oarsub or another tool submitted. It waits until the job runs and gives its nodes to the roles; deploy "
    "goes on with it, and release ends it.",
    "g5kdeploy attach 1965464 composition/statx/experiment.yaml --testbed grid5000 --site rennes\n"
    "g5kdeploy attach 3 composition/statx/experiment.yaml --testbed lab && g5kdeploy deploy composition/statx/experiment.yaml",
)
@click.argument("job", type=click.IntRange(min=1))
@experiment_argument
@site_option
@wait_option
@run_option
@runs_option
@testbed_option
@output_option
@progress_option
def attach(
    screen: Screen,
    job: int,
    experiment: Path,
    site: str | None,
    wait: str | None,
    run_id: str | None,
    runs: Path | None,
    testbed: str | None,
    output: str | None,
    progress: str,
) -> ExitCode:
    """The phase reserve, with a job that is there already."""
    from g5kdeploy.workflow import chain, reserving

    form = settings.get("output", output)
    told = settings.experiment_of(experiment, testbed=testbed, site=site)
    patience = None if wait is None else float(times.seconds(wait, "--wait"))
    with on_run(screen, told, progress, run_id, runs, new=True) as session:
        code = chain.do(
            session, "reserve", again=True, work=lambda session: reserving.attach(session, job, site, patience)
        )
        answer = {"run": session.run.id, **session.run.phases()["reserve"].result}
    screen.answer(single("Attach", **answer), form, tuple(answer))
    return code


@make(
    "extend",
    "Ask for more walltime for the run's job, and tell what came of it. The site grants it when nobody else is delayed: exit "
    "code 0 when all of it was granted, 5 when a part, 9 when it is still pending after --wait, 6 when it was refused.",
    "g5kdeploy extend +1:00 composition/statx/experiment.yaml\n"
    "g5kdeploy extend 30m composition/statx/experiment.yaml --wait 5m -o json",
)
@click.argument("time", metavar="+TIME")
@experiment_argument
@click.option(
    "--wait", default="70s", show_default=True, metavar="TIME", help="Wait at most so long for the scheduler's answer."
)
@run_option
@runs_option
@testbed_option
@output_option
@progress_option
def extend(
    screen: Screen,
    time: str,
    experiment: Path,
    wait: str,
    run_id: str | None,
    runs: Path | None,
    testbed: str | None,
    output: str | None,
    progress: str,
) -> ExitCode:
    """More time for every job of the run."""
    from g5kdeploy.workflow import reserving

    form = settings.get("output", output)
    more = times.seconds(time.removeprefix("+"), "+TIME", of_walltime=True)
    patience = float(times.seconds(wait, "--wait"))
    told = settings.experiment_of(experiment, testbed=testbed)
    with on_run(screen, told, progress, run_id, runs, beside=True) as session:
        session.in_phase("extend")
        found = reserving.extend(session, more, patience)
    columns = ("name", "site", "job", "granted", "ends", "outcome")
    screen.answer(listing("Extensions", [_item(one) for one in found]), form, columns)
    if all(one.gained >= one.asked for one in found):
        return ExitCode.DONE
    return ExitCode.PARTLY if any(one.gained > 0 for one in found) else ExitCode.DEADLINE


def _item(one: Extension) -> dict[str, Any]:
    from g5kdeploy.base.text import human_seconds
    from g5kdeploy.testbed.request import told

    job = one.reservation.job
    return {
        "name": job.name,
        "site": job.site,
        "job": job.id,
        "granted": human_seconds(one.gained) if one.gained > 0 else "nothing",
        "ends": told(job.ends_at) if job.ends_at else "",
        "outcome": one.words,
        "asked_seconds": one.asked,
        "granted_seconds": one.gained,
        "walltime": job.walltime,
        "ends_at": job.ends_at,
    }
