"""What is planned for: the roles' nodes, for how long, in which queue; and why a node is none for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.text import human_seconds
from g5kdeploy.testbed.request import RoleNodes

OTHER_QUEUE = "takes the queue"
PLATFORM = "x86_64"  # what closures are built for


@dataclass(frozen=True)
class Wish:
    """Nodes for roles, `walltime` in seconds, whatever the site; `exclude`: short names of nodes that are not taken."""

    roles: tuple[RoleNodes, ...]
    walltime: int
    queue: str = "default"
    types: tuple[str, ...] = ("deploy",)
    platform: str = PLATFORM
    exclude: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """How many nodes in all."""
        return sum(role.count for role in self.roles)

    @property
    def best_effort(self) -> bool:
        """Whether the job may be ended by others, and ends none itself."""
        return self.queue == "besteffort" or "besteffort" in self.types

    @property
    def inner(self) -> int | None:
        """The job inside whose nodes and time this one has to be, if it has to."""
        values = (value for word, _, value in (kind.partition("=") for kind in self.types) if word == "inner")
        return next((int(value) for value in values if value.isdigit()), None)

    @property
    def evicts(self) -> bool:
        """Whether besteffort jobs make way for it."""
        return not self.best_effort and self.inner is None


def objection(wish: Wish, document: Mapping[str, Any]) -> str:
    """Why a node with that reference document cannot be had so, in words; "" when it can."""
    allows = document.get("supported_job_types") or {}
    queues = tuple(allows.get("queues") or ())
    longest = int(allows.get("max_walltime") or 0)
    platform = str((document.get("architecture") or {}).get("platform_type") or "")
    if str(document.get("uid")) in wish.exclude:
        return "is excluded"
    if platform and wish.platform and platform != wish.platform:
        return f"is {platform}, the closures are {wish.platform}"
    if wish.best_effort:
        if not allows.get("besteffort", True):
            return "takes no besteffort jobs"
    elif queues and wish.queue not in queues:
        public = [queue for queue in queues if queue != "admin"] or list(queues)
        return f"{OTHER_QUEUE} {' or '.join(public)}, not {wish.queue}"
    if document.get("exotic") and "exotic" not in wish.types:
        return "is exotic: needs the job type exotic"
    if "deploy" in wish.types and not allows.get("deploy", True):
        return "cannot be deployed"
    if longest and longest < wish.walltime:
        return f"takes jobs of at most {human_seconds(longest)}"
    return ""
