"""What flags say of sites and nodes to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from g5kdeploy.cli.nodes import split

if TYPE_CHECKING:
    from g5kdeploy.experiment import Experiment
    from g5kdeploy.testbed.api import Api

SECONDS = 120.0


def named(sites: str | None) -> list[str] | None:
    """The sites that --sites names; none: all of the testbed; None: it was not given."""
    if sites is None:
        return None
    names = split(sites, "--sites")
    return [] if names == ["all"] else names


def without(experiment: Experiment, exclude_nodes: str | None) -> Experiment:
    """The experiment, with the nodes of --exclude-nodes left out beside those of its file."""
    if exclude_nodes is None:
        return experiment
    words = split(exclude_nodes, "--exclude-nodes")
    return experiment.model_copy(update={"exclude_nodes": (*experiment.exclude_nodes, *words)})


def check_left_out(api: Api, exclude_nodes: str | None) -> None:
    """`InvalidUse` for a node of --exclude-nodes that the testbed has not; those of the file may be another testbed's."""
    if not exclude_nodes:
        return
    from g5kdeploy.base.deadline import Deadline
    from g5kdeploy.node import expand
    from g5kdeploy.testbed.naming import check_nodes

    names = [name for word in split(exclude_nodes, "--exclude-nodes") for name in expand(word)]
    check_nodes(api, names, Deadline.after(SECONDS, "the nodes of --exclude-nodes", api.clock))
