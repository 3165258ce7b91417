"""`g5kdeploy init FOLDER`: a new experiment that is complete and can be run as it is."""

from __future__ import annotations

import re
from pathlib import Path

import click

from g5kdeploy.base import files
from g5kdeploy.base.text import to_paste
from g5kdeploy.cli.command import command as make
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.output.screen import Screen

FILES = ("experiment.yaml", "roles.nix", "composition.nix", "test.py")
TEMPLATES = Path(__file__).with_name("templates")


@make(
    "init",
    "Write a new experiment into FOLDER: experiment.yaml, roles.nix, composition.nix and test.py. Files that are there "
    "are never overwritten.",
    "g5kdeploy init my-experiment\ng5kdeploy run my-experiment --testbed lab",
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", default=None, help="The experiment's name [default: the folder's].")
def command(screen: Screen, folder: Path, name: str | None) -> None:
    """Nothing is written unless all of it can be."""
    present = [file for file in FILES if (folder / file).exists()]
    if present:
        raise InvalidUse(
            f"{folder} already has {', '.join(present)}", hint="choose another folder; nothing was written"
        )
    chosen = name if name is not None else name_from(folder)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", chosen):
        raise InvalidUse(
            f"`{chosen}` is no name for an experiment", cause="letters, digits, `.`, `_` and `-`, up to 60"
        )
    try:
        for file in FILES:
            text = (TEMPLATES / f"{file}.template").read_text().replace("@name@", chosen)
            files.write(folder / file, text)
    except OSError as error:
        raise InvalidUse(f"{folder} cannot be written", cause=error.strerror or str(error)) from error
    screen.say(f"wrote {', '.join(FILES)} into {folder}")
    screen.say(f"try it: g5kdeploy lab start && {to_paste('run', folder, '--testbed', 'lab')}")


def name_from(folder: Path) -> str:
    """A folder's name, as far as an experiment can be called so."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.absolute().name).strip("-._")[:60] or "experiment"
