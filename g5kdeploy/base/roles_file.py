"""What a roles file (roles.nix) may say of a role; a key that nobody reads would be a wish that nobody grants."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

KEYS = ("count", "kernel", "packages", "without", "programs", "binaries", "files", "services")
SERVICE_KEYS = ("command", "type", "user", "after", "environment", "state", "timeout")


def mistakes(roles: Mapping[str, Mapping[str, Any]], programs: Path) -> list[str]:
    """Every mistake in what `plan.nix` says of roles, a sentence each; `programs`: the folder of the BPF programs."""
    found: list[str] = []
    there = {path.name.split(".")[0] for path in programs.glob("*.yaml")}
    for name, role in roles.items():
        found += _unknown(f"role {name} has no key", role["keys"], KEYS)
        for service, keys in role["services"].items():
            found += _unknown(f"service {service} of role {name} has no key", keys, SERVICE_KEYS)
            if "command" not in keys:
                found.append(f"service {service} of role {name} has no `command`")
        found += _unknown(f"role {name}: there is no BPF program", role["programs"], there)
    return found


def _unknown(what: str, words: Iterable[str], known: Collection[str]) -> list[str]:
    found = []
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(word, known, 1)
            found.append(f"{what} `{word}`" + (f" (did you mean `{near[0]}`?)" if near else ""))
    return found
