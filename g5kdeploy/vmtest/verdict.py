"""What a test script came to, and how long that holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from g5kdeploy.base import files, folders
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import human_seconds
from g5kdeploy.events.failure import Failure

DRIVER_VERSION = 1
"""Counted up whenever a verdict of an older driver would not be ours any more."""


class ScriptFailed(Failure):
    """The test script failed; `cause` has its line and what the machine said, `log` everything."""


class Kind(StrEnum):
    """How a part of a script ended."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    """The script itself is wrong, or the machines were lost: nothing was found out about the system."""


@dataclass(frozen=True)
class Part:
    """The whole script (`main`) or one of its subtests: how it ended, its seconds, and why it failed."""

    name: str
    kind: Kind
    seconds: float
    message: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a script that passed came to; one that failed is a `ScriptFailed`.

    `parts` begins with `main`. `reused`: nothing was run, the same script passed on the same systems before.
    """

    parts: tuple[Part, ...]
    seconds: float
    reused: bool = False
    machines: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return all(part.kind is Kind.PASSED for part in self.parts)

    @property
    def words(self) -> str:
        """The verdict in a few words."""
        subtests = len(self.parts) - 1
        told = f"passed on {', '.join(self.machines)}: " if self.machines else "passed: "
        told += f"{subtests} subtests" if subtests != 1 else "1 subtest"
        if self.reused:
            return f"an earlier verdict is reused, its inputs hold: {told}"
        return f"{told} in {human_seconds(self.seconds)}"


def key_of(toplevels: Mapping[str, str], counts: Mapping[str, int], script: str) -> str:
    """The hash of what a verdict on local machines depends on."""
    inputs = [DRIVER_VERSION, sorted(toplevels.items()), sorted(counts.items()), script]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def _kept(key: str) -> Path:
    return folders.cache() / "verdicts" / f"{key}.json"


def keep(key: str, verdict: Verdict) -> None:
    """Keep a verdict for later; only one that passed is ever kept."""
    if verdict.passed:
        files.write_json(_kept(key), asdict(verdict))


def find(key: str) -> Verdict | None:
    """The verdict that was kept under a key, marked as reused."""
    try:
        kept = files.read_json(_kept(key))
        parts = tuple(Part(**{**part, "kind": Kind(part["kind"])}) for part in kept["parts"])
        found = Verdict(parts, float(kept["seconds"]), True, tuple(kept["machines"]))
    except (Problem, KeyError, TypeError, ValueError):
        return None  # never given, or the file is damaged: the test is run
    return found if found.parts and found.passed else None
