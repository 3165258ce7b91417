"""What else is to be known of an option, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from g5kdeploy.testbed.planning.landscape import SECURITY, USABLE, Node
from g5kdeploy.testbed.request import told


def remarks(
    nodes: Sequence[Node],
    standby: int,
    evicted: int,
    start: float,
    allowed: float | None,
    mixed: bool,
) -> Iterator[str]:
    """The remarks on an option; `nodes` are all of the clusters that it takes nodes of."""
    if mixed:
        yield "of several clusters"
    if standby:
        yield f"{standby} of the nodes must be switched on first"
    if evicted:
        yield f"{evicted} of the nodes are taken from besteffort jobs"
    if allowed is not None and allowed != start:
        yield f"the policy allows it from {told(allowed)}"
    closed = [max(end for _, end in node.repair) for node in nodes if node.repair]
    if closed:
        yield f"maintenance on {len(closed)} of {len(nodes)} nodes until {told(max(closed) - SECURITY)}"
    states: dict[str, int] = {}
    for node in nodes:
        if node.state not in USABLE:
            states[node.state or "unknown"] = states.get(node.state or "unknown", 0) + 1
    if states:
        yield "out of order: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
