"""What a shell is offered for a word that was begun: names found on this disk. No testbed is asked, and no mistake is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click

from g5kdeploy.base.problem import Problem

Offer = Callable[[click.Context, click.Parameter, str], list[str]]


def _offered(find: Callable[[click.Context], Iterable[str]]) -> Offer:
    """As `shell_complete=` wants it."""

    def offer(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        try:
            return [word for word in find(context) if word.startswith(begun)]
        except Problem:
            return []

    return offer


def _experiment(context: click.Context) -> Path:
    """The experiment of the line; click leaves arguments over while the value of an option behind them is begun."""
    given = any(isinstance(one, click.Argument) and one.name == "experiment" for one in context.command.params)
    return Path(context.args[0] if given and context.args else context.params.get("experiment") or "experiment.yaml")


@_offered
def runs(context: click.Context) -> list[str]:
    """The ids of the experiment's runs, the newest first."""
    from g5kdeploy.cli import nodes, settings
    from g5kdeploy.runs import list_runs, runs_folder

    file = nodes.experiment_file(_experiment(context))
    return [run.id for run in list_runs(runs_folder(file, settings.runs(context.params.get("runs")))).runs]


@_offered
def nodes(context: click.Context) -> list[str]:
    """The nodes of the run that a command is about, its roles, and `all`."""
    from g5kdeploy.cli import nodes

    known = nodes.current_run(_experiment(context), context.params.get("run_id")).nodes()
    roles = {str(node.get("role", "")) for node in known.values()}
    return [*sorted(roles), *(name.split(".")[0] for name in known), nodes.ALL] if known else []


@_offered
def phases(context: click.Context) -> tuple[str, ...]:
    """The phases of `run`."""
    from g5kdeploy.workflow import chain

    return chain.NAMES
