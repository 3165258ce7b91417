"""Sets of nodes in one word, as ClusterShell writes them: vm-[1-3].lab.grid5000.fr."""

from __future__ import annotations

import re
from collections.abc import Iterable

from g5kdeploy.base.problem import Problem

NAME = "[a-z0-9][a-z0-9.-]*"
"""What the name of a node, a cluster or a site looks like, as a regular expression."""
MOST = 100_000
"""Names in a set: more are a slip of the keyboard, and would fill the memory."""


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
        if any(int(last) - int(first) >= MOST for first, last in re.findall(r"([0-9]{1,20})-([0-9]{1,20})", word)):
            raise NodeSetException(f"more than {MOST} names")
        nodes = NodeSet(word, resolver=RESOLVER_NOGROUP)
        if len(nodes) > MOST:
            raise NodeSetException(f"more than {MOST} names")
        return list(nodes)
    except NodeSetException as error:
        raise BadSet(f"`{word}` is no set of nodes", cause=str(error), hint="for example vm-[1-8]") from error
