"""A job as the API tells it, and what its state and its events mean in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FINAL = frozenset({"terminated", "error"})


@dataclass(frozen=True)
class JobEvent:
    """Something that happened to a job: OAR's type and text, unix time."""

    type: str
    description: str
    created_at: int


@dataclass(frozen=True)
class Job:
    """One job. Times in unix seconds, None while there are none; walltime in seconds; nodes by full name, sorted."""

    id: int
    site: str
    name: str
    user: str
    state: str
    walltime: int
    queue: str
    types: tuple[str, ...]
    submitted_at: int
    scheduled_at: int | None
    started_at: int | None
    stopped_at: int | None
    message: str
    nodes: tuple[str, ...]
    vlans: tuple[str, ...]
    subnets: tuple[str, ...]
    events: tuple[JobEvent, ...]

    @classmethod
    def from_document(cls, site: str, document: Mapping[str, Any]) -> Job:
        """From what `GET /sites/S/jobs/N` answers; nodes are only believed once the job runs."""
        raise NotImplementedError

    @property
    def over(self) -> bool:
        return self.state in FINAL

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def ends_at(self) -> int | None:
        """When the walltime ends (unix time), None before the start."""
        return self.started_at + self.walltime if self.started_at else None

    def state_in_words(self) -> str:
        """The state as a person says it: "waiting for free nodes", "starting"."""
        raise NotImplementedError

    def reason(self) -> str:
        """Why it ended (killed by its owner, the walltime, a besteffort preemption, the site); "" while it is not over."""
        raise NotImplementedError

    def notices(self) -> list[str]:
        """What the site's admission rules said to this submission."""
        raise NotImplementedError
