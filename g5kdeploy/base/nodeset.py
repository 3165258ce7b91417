"""Sets of nodes in one word, as ClusterShell writes them: vm-[1-3].lab.grid5000.fr."""

from __future__ import annotations

from collections.abc import Iterable

from g5kdeploy.base.problem import Problem


class BadSet(Problem):
    """A word that is no set of nodes."""


def fold(names: Iterable[str]) -> str:
    """Many names as one short word."""
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

    return str(NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP))


def expand(word: str) -> list[str]:
    """The names that a folded word stands for, in order; raises `BadSet` when it is none."""
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

    try:
        return list(NodeSet(word, resolver=RESOLVER_NOGROUP))
    except NodeSetException as error:
        raise BadSet(f"`{word}` is no set of nodes", cause=str(error), hint="for example vm-[1-8]") from error
