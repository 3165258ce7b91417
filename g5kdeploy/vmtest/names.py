"""What machines are called: by the network, and by the test script."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def machines_of(counts: Mapping[str, int]) -> dict[str, str]:
    """Machine name → role: the role's own name when it has one machine, otherwise role1, role2, ..."""
    return {
        role if count == 1 else f"{role}{number}": role
        for role, count in counts.items()
        for number in range(1, count + 1)
    }


def names_of(nodes: Mapping[str, str]) -> dict[str, str]:
    """The same names for deployed nodes (full name → role), in the order given: machine name → full name."""
    of_role: dict[str, list[str]] = {}
    for node, role in nodes.items():
        of_role.setdefault(role, []).append(node)
    return {
        role if len(members) == 1 else f"{role}{number}": node
        for role, members in of_role.items()
        for number, node in enumerate(members, start=1)
    }


def variable(name: str) -> str:
    """A machine's name as the script's variable, by the NixOS test driver's rule: all but letters and digits is `_`."""
    return re.sub(r"^[^A-Za-z_]|[^A-Za-z0-9_]", "_", name)


def variables(machines: Iterable[str], roles: Mapping[str, str]) -> dict[str, str]:
    """The script's variables and the machines they stand for; a role's own name stands for its first machine, too."""
    found: dict[str, str] = {}
    for machine in machines:
        found[variable(machine)] = machine
    for machine in machines:
        found.setdefault(variable(roles[machine]), machine)
    return found
