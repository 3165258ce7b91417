"""The phases as commands of their own: each goes on with the newest run of the experiment that is not over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from g5kdeploy.base.text import to_paste
from g5kdeploy.cli import settings, times
from g5kdeploy.cli.choice import check_left_out, named, without
from g5kdeploy.cli.command import command as make
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
from g5kdeploy.output.documents import single
from g5kdeploy.output.screen import Screen


def _phase(name: str, text: str, example: str, *options: Any, new: bool = False) -> click.Command:
    """A command for one phase; `new`: it begins a run when there is none to go on with."""

    def act(
        screen: Screen,
        experiment: Path,
        run_id: str | None,
        runs: Path | None,
        testbed: str | None,
        output: str | None,
        progress: str,
        **more: Any,
    ) -> ExitCode:
        form = settings.get("output", output)
        flags = {key: more[key] for key in ("site", "walltime", "queue", "project") if key in more}
        told = without(settings.experiment_of(experiment, testbed=testbed, **flags), more.get("exclude_nodes"))
        more["sites"] = named(more.get("sites"))
        with on_run(screen, told, progress, run_id, runs, new=new) as session:
            code = _do(session, name, more)
            record = session.run.phases().get(name)
            answer = {"run": session.run.id, "phase": name, **(record.result if record else {})}
        screen.answer(single(name.capitalize(), **answer), form, tuple(answer))
        return code

    command: Any = act
    for option in (
        progress_option,
        output_option,
        testbed_option,
        runs_option,
        run_option,
        *options,
        experiment_argument,
    ):
        command = option(command)
    return make(name, text, example)(command)


def _do(session: Any, name: str, more: dict[str, Any]) -> ExitCode:
    from g5kdeploy.cli.main import Terminated
    from g5kdeploy.workflow import chain, checking, handing, reserving

    if more.get("manifest"):
        handing.adopt(session, more["manifest"].absolute())
    if name == "reserve":
        check_left_out(session.api, more.get("exclude_nodes"))
        wait = None if more.get("wait") is None else float(times.seconds(more["wait"], "--wait"))
        if more.get("no_wait"):
            if wait is not None:
                raise InvalidUse("--wait and --no-wait contradict each other")
            wait = 0.0
        at, policy = more.get("at") or "", more.get("policy") or ""
        sites = more.get("sites")
        site = more.get("site") or ""
        try:
            return chain.do(
                session, name, work=lambda session: reserving.reserve(session, wait, at, policy, sites, site)
            )
        except (KeyboardInterrupt, Terminated):
            if held := session.records.unreleased(run=session.run.id):
                there = "the job stays in the queue" if any(one.job for one in held) else "a job may be in the queue"
                session.emit.note(name, f"{there}; {to_paste('release', session.experiment.file)} takes it back")
            raise
    if name == "vmtest" and more.get("again"):
        return chain.do(session, name, again=True, work=lambda session: checking.vmtest(session, reuse=False))
    return chain.do(session, name, again=bool(more.get("again")))


_again = click.option("--again", is_flag=True, help="Do it although it was done with the same inputs.")
_wait = click.option("--wait", default=None, metavar="TIME", help="Wait at most so long for the start [default: 24h].")
_no_wait = click.option(
    "--no-wait", is_flag=True, help="Only submit; the same command without it waits for the start later on."
)
_at = click.option(
    "--at", default=None, metavar="WHEN", help="When to start: now, earliest, night, weekend or YYYY-MM-DD HH:MM."
)
_policy = click.option(
    "--policy",
    type=click.Choice(("warn", "enforce", "ignore")),
    default=None,
    help="What to do where the usage policy says no [default with --at: warn].",
)

build = _phase(
    "build",
    "Build the closures of an experiment's roles, by Nix, from what roles.nix says. Nothing is done when nothing changed.",
    "g5kdeploy build composition/statx/experiment.yaml --testbed lab",
    _again,
    site_option,
    new=True,
)
vmtest = _phase(
    "vmtest",
    "Run the composition's test script on local virtual machines that boot the very closures. A verdict is reused while its "
    "inputs hold.",
    "g5kdeploy vmtest composition/statx/experiment.yaml --testbed lab",
    _again,
)
push = _phase(
    "push",
    "Sign the closures and bring what is missing into the binary cache in your ~/public on the site's frontend.",
    "g5kdeploy push composition/statx/experiment.yaml --testbed lab",
    _again,
)
reserve = _phase(
    "reserve",
    "Submit the job and wait until it runs. The reservation is on record before it is asked for; the same command finds it "
    "again after a crash.",
    "g5kdeploy reserve composition/statx/experiment.yaml --testbed lab --walltime 1h\n"
    "g5kdeploy reserve composition/statx/experiment.yaml --testbed grid5000 --at night --policy enforce",
    _wait,
    _no_wait,
    _policy,
    _at,
    exclude_option,
    sites_option,
    project_option,
    queue_option,
    walltime_option,
    site_option,
    new=True,
)
deploy = _phase(
    "deploy",
    "Bring the job's nodes to their closures: the base environment by kadeploy, the closure pulled from the cache, its kernel "
    "booted by kexec and proven, the exporter up.",
    "g5kdeploy deploy composition/statx/experiment.yaml --testbed lab\n"
    "g5kdeploy deploy experiment.yaml --manifest ~/public/g5kdeploy/pushed/statx.json",
    _again,
    manifest_option,
)
boot = _phase(
    "boot",
    "Pull each deployed node's closure and boot its kernel; nodes that run it already are left alone.",
    "g5kdeploy boot composition/statx/experiment.yaml --testbed lab",
)
exporter = _phase(
    "exporter",
    "Start the exporter on the booted nodes, and check that it serves the programs that the experiment asks for.",
    "g5kdeploy exporter composition/statx/experiment.yaml --testbed lab",
)
check = _phase(
    "check",
    "Run the composition's test script, the one of vmtest, on the deployed nodes.",
    "g5kdeploy check composition/statx/experiment.yaml --testbed lab",
    _again,
)
bench = _phase(
    "bench",
    "Run the benchmark's workload in a cgroup of its own, detached on its nodes, scraped before, meanwhile and after. A "
    "workload that is under way is attached to.",
    "g5kdeploy bench composition/statx/experiment.yaml --testbed lab",
    _again,
)
collect = _phase(
    "collect",
    "Bring samples, journals, consoles and the workload's files into the run's folder.",
    "g5kdeploy collect composition/statx/experiment.yaml --testbed lab",
)
report = _phase(
    "report",
    "Write the run's report.html, which opens from the disk, with no network.",
    "g5kdeploy report composition/statx/experiment.yaml --testbed lab --run 20261128-1200",
)
release = _phase(
    "release",
    "Delete the run's jobs and wait until the site says that they are over.",
    "g5kdeploy release composition/statx/experiment.yaml --testbed lab",
)
