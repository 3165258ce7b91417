"""Reservation records: on disk before the request leaves, so that no job is ever forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from g5kdeploy.testbed.request import Request


class RecordState(StrEnum):
    """How much is known of a job."""

    ASKED = "asked"  # the request may or may not have arrived
    KNOWN = "known"  # it has a job id
    RELEASED = "released"  # it is over, and the site said so


@dataclass(frozen=True)
class Record:
    """One reservation as the disk remembers it; `name` is the job's unique name and the file's. Unix times."""

    name: str
    testbed: str
    uri: str
    site: str
    state: RecordState
    asked_at: float
    job: int | None = None
    run: str = ""
    experiment: str = ""
    roles: tuple[dict[str, Any], ...] = ()
    foreign: bool = False
    released_at: float | None = None
    outcome: str = ""


class Records:
    """The records of one testbed in a folder (default: state/reservations), one JSON file each."""

    def __init__(self, testbed: str, folder: Path | None = None) -> None:
        self.testbed = testbed
        self.folder = folder

    def all(self) -> list[Record]:
        """All of this testbed's records, the newest first."""
        raise NotImplementedError

    def unreleased(self, run: str | None = None, experiment: str | None = None) -> list[Record]:
        """Those whose job may still hold nodes, the newest first."""
        raise NotImplementedError

    def ask(self, request: Request, uri: str) -> Record:
        """The record for a request, on disk when this returns: the unreleased one of the same run and site, or a new one."""
        raise NotImplementedError

    def save(self, record: Record) -> Record:
        raise NotImplementedError
