"""A command on any number of nodes: each over a connection of its own, or many of them through their site's frontend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.node.fan import LIMIT, fan_out
from g5kdeploy.node.link import holding
from g5kdeploy.node.problems import Result
from g5kdeploy.node.reach import Reach, Seen

TREE = 32  # nodes of one site from which on its frontend does the work
MOST = 16 << 20  # bytes of a node's answer: those of all are held at once, here and on the frontend

Branches = dict[str, dict[str, Seen]]  # frontend -> its nodes


def run_on(
    reach: Reach,
    names: Iterable[str],
    user: str | None,
    command: str,
    deadline: Deadline,
    frontend_of: Callable[[str], str],
    tree_from: int = TREE,
) -> dict[str, Result | Problem]:
    """Run a shell command as `user` (None: as in `Reach.remote`) on every node; what came of it, in the order given.

    Nodes that would each be a login on a gateway go through their frontend, where it has `tree_from` of them. Where
    that cannot be, and for all others, there are connections of our own. The answers are the same; one that is longer
    than `MOST` is an `Overflow`.
    """
    wanted = list(dict.fromkeys(names))

    def directly(name: str) -> Result:
        return reach.remote(name, user).run(command, deadline, check=False, login_shell=True, limit=MOST)

    if user is None or len(wanted) < tree_from:
        return fan_out(wanted, directly)
    branches = _branches(reach, wanted, user, frontend_of, tree_from)
    if not branches:
        return fan_out(wanted, directly)
    from g5kdeploy.node.tree import Tree

    places = threading.BoundedSemaphore(LIMIT)
    with Tree(reach, branches, user, command, deadline, MOST) as tree:

        def work(name: str) -> Result:
            answer = tree.answer(name)
            if isinstance(answer, Problem):
                raise answer
            if answer is not None:
                return answer
            with holding(places, deadline, f"{name} has to wait for other nodes"):
                return directly(name)

        return fan_out(wanted, work, limit=len(wanted))


def _branches(
    reach: Reach, names: Iterable[str], user: str, frontend_of: Callable[[str], str], tree_from: int
) -> Branches:
    """The nodes that are reached by a command of the user's, a login on a gateway each, and whose host keys are known."""
    found: Branches = {}
    for name in names:
        hop, keys = reach.seen(name, user)
        if keys and hop.proxy_command:
            found.setdefault(frontend_of(name), {})[name] = hop, keys
    return {frontend: nodes for frontend, nodes in found.items() if len(nodes) >= tree_from}
