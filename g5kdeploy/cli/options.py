"""Arguments and options that several commands share. A flag that is not given is None: `settings` knows the rest."""

from __future__ import annotations

from pathlib import Path

import click

from g5kdeploy.cli import complete
from g5kdeploy.cli.settings import FORMATS, TESTBEDS

experiment_argument = click.argument(
    "experiment",
    type=click.Path(path_type=Path, dir_okay=True),
    default=Path("experiment.yaml"),
    metavar="[EXPERIMENT]",
)
"""The experiment file, or its folder; default ./experiment.yaml. Parameter `experiment: Path`."""

experiment_option = click.option(
    "--experiment",
    type=click.Path(path_type=Path),
    default=Path("experiment.yaml"),
    metavar="PATH",
    help="The experiment file whose run it is about, or its folder [default: experiment.yaml].",
)
"""The same as an option, for commands whose argument is a node. Parameter `experiment: Path`."""

user_option = click.option(
    "-l", "--user", default=None, help="The user to log in as [default: root on nodes, yourself on other machines]."
)
"""Parameter `user: str | None`, for `Chosen.login`."""

output_option = click.option(
    "-o", "--output", type=click.Choice(FORMATS), default=None, help="How the answer is printed [default: table]."
)
"""Parameter `output: str | None`."""

progress_option = click.option(
    "--progress",
    type=click.Choice(("auto", "live", "plain", "jsonl", "none")),
    default="auto",
    help="How progress is shown on stderr; jsonl: the events on stdout [default: as the terminal].",
)
"""Parameter `progress: str`, for `Screen.renderer`."""

testbed_option = click.option(
    "--testbed", type=click.Choice(TESTBEDS), default=None, help="Which testbed; never guessed."
)
"""Parameter `testbed: str | None`."""

run_option = click.option(
    "--run",
    "run_id",
    default=None,
    metavar="ID",
    shell_complete=complete.runs,
    help="Which run to go on with [default: the newest unreleased one].",
)
"""Parameter `run_id: str | None`."""

runs_option = click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of the runs [default: runs/ beside the experiment file].",
)
"""Parameter `runs: Path | None`."""

site_option = click.option("--site", default=None, help="The site to reserve on.")
"""Parameter `site: str | None`."""

walltime_option = click.option("--walltime", default=None, metavar="TIME", help="How long: 1:30:00, 90m or 2h.")
"""Parameter `walltime: str | None`."""

sites_option = click.option(
    "--sites",
    default=None,
    metavar="NAMES",
    help="Sites to choose from, with commas, or all [default: the experiment's].",
)
"""Parameter `sites: str | None`, for `sites_named`."""

exclude_option = click.option(
    "--exclude-nodes", default=None, metavar="NODES", help="Nodes not to take: names or folded sets, with commas."
)
"""Parameter `exclude_nodes: str | None`, for `without`."""

queue_option = click.option("--queue", default=None, help="The queue to submit to.")
"""Parameter `queue: str | None`."""

project_option = click.option("--project", default=None, help="The project that the reservation is accounted to.")
"""Parameter `project: str | None`."""

manifest_option = click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    default=None,
    help="What `push` of another machine left on the frontend, in place of a build here.",
)
"""Parameter `manifest: Path | None`."""
