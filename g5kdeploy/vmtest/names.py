"""What machines are called: by the network, and by the test script."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from g5kdeploy.events.failure import InvalidUse


def machines_of(counts: Mapping[str, int]) -> dict[str, str]:
    """Machine name → role: the role's own name when it has one machine, otherwise role1, role2, ..."""
    return dict(_unique([(name, role) for role, count in counts.items() for name in _names(role, count)]))


def names_of(nodes: Mapping[str, str]) -> dict[str, str]:
    """The same names for deployed nodes (full name → role), in the order given: machine name → full name."""
    of_role: dict[str, list[str]] = {}
    for node, role in nodes.items():
        of_role.setdefault(role, []).append(node)
    pairs = [
        pair for role, members in of_role.items() for pair in zip(_names(role, len(members)), members, strict=True)
    ]
    return dict(_unique(pairs))


def _names(role: str, count: int) -> list[str]:
    return [role] if count == 1 else [f"{role}{number}" for number in range(1, count + 1)]


def _unique(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs, if scripts can tell the machines apart."""
    seen: dict[str, str] = {}
    for name, _ in pairs:
        if (other := seen.setdefault(variable(name), name)) != name or [n for n, _ in pairs].count(name) > 1:
            raise InvalidUse(
                f"a test script cannot tell the machines {other} and {name} apart",
                cause=f"both would be its variable `{variable(name)}`",
                hint="give one of the roles another name",
            )
    return pairs


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
