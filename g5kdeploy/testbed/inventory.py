"""What a site has, from its reference data and its status: enough nodes, from when, and what hardware they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.records import Record, Records
from g5kdeploy.testbed.request import Request


def hardware(api: Api, nodes: Iterable[str], deadline: Deadline) -> dict[str, dict[str, Any]]:
    """The reference description of each node, by full name, for run.json."""
    raise NotImplementedError


def check_exists(api: Api, request: Request, deadline: Deadline) -> None:
    """`NoResources`, with the numbers, when the site has not got that many nodes of that kind; nothing is sent."""
    raise NotImplementedError


def earliest(api: Api, request: Request, deadline: Deadline) -> float | None:
    """The earliest start (unix time) that the status lets expect; None when none can be told."""
    raise NotImplementedError


@dataclass(frozen=True)
class SiteStatus:
    """One site at a glance; `problem` says why there are no figures."""

    site: str
    nodes: int = 0
    free: int = 0
    busy: int = 0
    unusable: int = 0
    problem: str = ""


def status(api: Api, deadline: Deadline, sites: Sequence[str] = ()) -> list[SiteStatus]:
    """All sites (or those named) at once; a dead one does not spoil the rest."""
    raise NotImplementedError


@dataclass(frozen=True)
class Mine:
    """A job of ours or a record of one, or both."""

    site: str
    job: Job | None
    record: Record | None
    words: str


def mine(api: Api, records: Records, deadline: Deadline) -> tuple[list[Mine], list[str]]:
    """All jobs of this user on all sites, joined with the records on disk; and the sites that could not be asked."""
    raise NotImplementedError
