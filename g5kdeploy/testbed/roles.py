"""Which node plays which role: a matching of the job's nodes to what the roles ask for, the same at every call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import NoResources
from g5kdeploy.testbed import properties
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.hardware import hardware
from g5kdeploy.testbed.job import natural
from g5kdeploy.testbed.lookup import Reservation
from g5kdeploy.testbed.request import RoleNodes, cluster_of, full_name


def assign(api: Api, reservation: Reservation, deadline: Deadline) -> dict[str, tuple[str, ...]]:
    """Which nodes play which role: role -> full names, in natural order.

    Raises `NoResources` when a role gets fewer nodes than it cannot do without.
    """
    roles = reservation.record.roles
    nodes = sorted(reservation.nodes, key=natural)
    documents: Mapping[str, Mapping[str, Any]] = {}
    if any(role.condition for role in roles):
        documents = hardware(api, nodes, deadline)
    fits = fitting(roles, nodes, documents, reservation.site)
    found = match(roles, nodes, fits)
    missing = [
        f"{role.role} ({len(found[role.role])} of {role.needed})"
        for role in roles
        if len(found[role.role]) < role.needed
    ]
    if missing:
        raise NoResources(
            f"job {reservation.job.id} has not enough nodes for: {', '.join(missing)}",
            cause=f"it holds {len(nodes)}: {', '.join(nodes) or 'none'}",
            hint="a reservation may start with fewer nodes when some have died; release it and reserve again",
        )
    return found


def fitting(
    roles: Sequence[RoleNodes], nodes: Sequence[str], documents: Mapping[str, Mapping[str, Any]], site: str
) -> Callable[[RoleNodes, str], bool]:
    """Whether a node will do for a role; a property that reference data cannot tell is taken as met."""
    by_properties = {
        role.condition: properties.matching(role.condition, documents) for role in roles if role.condition and documents
    }

    named = {role.role: {full_name(name, site) for name in role.nodes} for role in roles}

    def fits(role: RoleNodes, node: str) -> bool:
        if role.nodes and node not in named[role.role]:
            return False
        if role.cluster and cluster_of(node) != role.cluster:
            return False
        allowed = by_properties.get(role.condition)
        return allowed is None or node in allowed

    return fits


def match(
    roles: Sequence[RoleNodes], nodes: Sequence[str], fits: Callable[[RoleNodes, str], bool]
) -> dict[str, tuple[str, ...]]:
    """The largest matching of nodes to the roles' places (augmenting paths), earlier nodes to earlier roles.

    Where there are too few, the places that a role cannot do without are filled before all others. Nodes that will do
    for the same roles are of one kind; it is counted how many of a kind each role gets, so that many nodes cost little.
    """
    kinds: dict[tuple[int, ...], list[int]] = {}  # the roles that they will do for -> places among `nodes`
    for index, node in enumerate(nodes):
        kinds.setdefault(tuple(n for n, role in enumerate(roles) if fits(role, node)), []).append(index)
    shares = {kind: dict.fromkeys(kind, 0) for kind in kinds}  # kind -> role -> how many it gets

    def give(role: int, seen: set[tuple[int, ...]]) -> bool:
        """One node more for a role: one that nobody has, or one of a role that can have another in its place."""
        mine = [kind for kind in kinds if role in shares[kind] and kind not in seen]
        left = [kind for kind in mine if sum(shares[kind].values()) < len(kinds[kind])]
        if left:
            shares[min(left, key=lambda kind: kinds[kind][sum(shares[kind].values())])][role] += 1
            return True
        seen.update(mine)
        for kind in mine:
            for other, count in shares[kind].items():
                if count and other != role and give(other, seen):
                    shares[kind][other] -= 1
                    shares[kind][role] += 1
                    return True
        return False

    places = [(number >= role.needed, n) for n, role in enumerate(roles) for number in range(role.count)]
    full: set[int] = set()  # roles that can get no more
    for _, n in sorted(places):
        if n not in full and not give(n, set()):
            full.add(n)
    found: dict[str, list[int]] = {role.role: [] for role in roles}
    for kind, indexes in kinds.items():
        rest = iter(indexes)
        for n, count in shares[kind].items():
            found[roles[n].role].extend(itertools.islice(rest, count))
    return {role: tuple(nodes[index] for index in sorted(indexes)) for role, indexes in found.items()}
