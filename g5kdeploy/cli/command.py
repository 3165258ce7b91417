"""How a command is made: its short help from the table, an example, and the options that all commands have."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

import click

from g5kdeploy.cli.table import SHORT_HELPS
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.output.screen import COLORS, Screen


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command; the function gets a `Screen` as its first argument instead of them."""

    @functools.wraps(function)
    def call(*args: Any, verbose: int, quiet: int, color: str, **kwargs: Any) -> Any:
        verbosity = verbose - quiet
        level = logging.DEBUG if verbosity > 0 else logging.WARNING if verbosity >= -1 else logging.ERROR
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s", force=True)
        logging.getLogger("g5kdeploy").setLevel(level)
        if verbosity > 1:
            logging.getLogger().setLevel(logging.INFO)
        return function(Screen(color, verbosity), *args, **kwargs)

    return call


def _options() -> list[click.Parameter]:
    return [
        click.Option(["-v", "--verbose"], count=True, help="Say more: -v what is run, -vv the libraries too."),
        click.Option(["-q", "--quiet"], count=True, help="Say less: -q warnings only, -qq errors only."),
        click.Option(
            ["--color"], type=click.Choice(COLORS), default="auto", help="Colours [default: as the terminal]."
        ),
    ]


def _help(text: str, example: str) -> str:
    lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
    return f"{text.strip()}\n\n\b\nExample:\n{lines}"


def command(name: str, text: str, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of the table from a function `(screen: Screen, **parameters) -> ExitCode | None`.

    It is the topmost decorator, above `@click.option` and `@click.argument`. `text` is the long help (paragraphs
    parted by empty lines), `example` one or more command lines.
    """

    def make(function: Callable[..., Any]) -> click.Command:
        made = click.command(name, help=_help(text, example), short_help=SHORT_HELPS[name])(_common(function))
        made.params += _options()
        return made

    return make


def group(name: str, text: str, example: str) -> Callable[[Callable[..., Any]], click.Group]:
    """Make a group of the table; its function takes nothing and does nothing."""

    return subgroup(name, SHORT_HELPS[name], text, example)


def subgroup(name: str, short: str, text: str, example: str) -> Callable[[Callable[..., Any]], click.Group]:
    """Make a group that another one adds to its commands; its function takes nothing and does nothing.

    Called without one of its commands it shows its help: on stderr and with exit code 2, for nothing was done.
    """

    def make(function: Callable[..., Any]) -> click.Group:
        @functools.wraps(function)
        def help_alone() -> None:
            context = click.get_current_context()
            if context.invoked_subcommand is None:
                click.echo(context.get_help(), err=True)
                context.exit(ExitCode.USAGE)

        decorate = click.group(name, help=_help(text, example), short_help=short, invoke_without_command=True)
        return decorate(help_alone)

    return make


def subcommand(parent: click.Group, name: str, short: str, text: str, example: str) -> Callable[..., click.Command]:
    """Make a command of a group, with the options that all commands have."""

    def make(function: Callable[..., Any]) -> click.Command:
        made = click.command(name, help=_help(text, example), short_help=short)(_common(function))
        made.params += _options()
        parent.add_command(made)
        return made

    return make
