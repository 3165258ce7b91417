"""Which node plays which role: a matching of the job's nodes to what the roles ask for, the same at every call."""

from __future__ import annotations

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

    def fits(role: RoleNodes, node: str) -> bool:
        if role.nodes and node not in {full_name(name, site) for name in role.nodes}:
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

    Where there are too few, the places that a role cannot do without are filled before all others.
    """
    places = [(number, role) for role in roles for number in range(role.count)]
    places.sort(key=lambda place: place[0] >= place[1].needed)
    taken: dict[str, int] = {}  # node -> place

    def place(number: int, seen: set[str]) -> bool:
        fitting_nodes = [node for node in nodes if node not in seen and fits(places[number][1], node)]
        for node in fitting_nodes:
            if node not in taken:
                taken[node] = number
                return True
        for node in fitting_nodes:
            if node not in seen:
                seen.add(node)
                if place(taken[node], seen):
                    taken[node] = number
                    return True
        return False

    for number in range(len(places)):
        place(number, set())
    found: dict[str, list[str]] = {role.role: [] for role in roles}
    for node in nodes:
        if node in taken:
            found[places[taken[node]][1].role].append(node)
    return {role: tuple(names) for role, names in found.items()}
