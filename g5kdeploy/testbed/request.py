"""What is asked of a site: nodes for roles, for how long, from when; and the OAR request that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RoleNodes:
    """How many nodes a role needs, and which will do: of one cluster, by name, or by OAR properties (SQL)."""

    role: str
    count: int
    cluster: str = ""
    properties: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """One reservation on one site. `walltime` in seconds, `at` in unix time (None: as soon as possible).

    `run` and `experiment` say what it is for: a second `reserve` with the same run finds the job again.
    """

    site: str
    roles: tuple[RoleNodes, ...]
    walltime: int
    queue: str = "default"
    types: tuple[str, ...] = ("deploy",)
    properties: str = ""
    project: str = ""
    at: float | None = None
    exclude: tuple[str, ...] = ()
    command: str = "sleep infinity"
    label: str = "experiment"
    run: str = ""
    experiment: str = ""

    @property
    def count(self) -> int:
        """How many nodes in all."""
        return sum(role.count for role in self.roles)


def payload(request: Request, name: str) -> dict[str, Any]:
    """The JSON body for `POST /sites/S/jobs`, under a job name that finds it again."""
    raise NotImplementedError
