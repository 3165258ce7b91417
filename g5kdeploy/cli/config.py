"""`g5kdeploy config show`."""

from __future__ import annotations

from pathlib import Path

import click

from g5kdeploy.cli import settings
from g5kdeploy.cli.command import group, subcommand
from g5kdeploy.cli.options import output_option
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen


@group(
    "config",
    "Settings come from, the first that says something: a flag, a variable G5KDEPLOY_NAME, the experiment file, the "
    "user's config.yaml, the default.",
    "g5kdeploy config show --origin",
)
def command() -> None:
    """Has `show` beneath it."""


@subcommand(
    command,
    "show",
    "Show every setting",
    "Show every setting's value; with --origin also where it came from. With EXPERIMENT, its file counts too.",
    "g5kdeploy config show --origin\ng5kdeploy config show composition/statx/experiment.yaml -o json",
)
@click.argument("experiment", type=click.Path(path_type=Path), required=False)
@click.option("--origin", is_flag=True, help="Say where each value came from.")
@output_option
def show(screen: Screen, experiment: Path | None, origin: bool, output: str | None) -> None:
    """Every setting, with its value and its origin."""
    found = settings.resolve({"output": output}, experiment)
    items = [
        {
            "name": value.name,
            "value": value.value,
            "origin": value.origin,
            "variable": settings.BY_NAME[value.name].variable,
            "help": settings.BY_NAME[value.name].help,
        }
        for value in found.values()
    ]
    columns = ["name", "value", "origin"] if origin else ["name", "value"]
    screen.answer(listing("Settings", items, file=str(settings.config_file())), settings.get("output", output), columns)
