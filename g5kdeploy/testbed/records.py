"""Reservation records: on disk before the request leaves, so that no job is ever forgotten."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from g5kdeploy.base import files, folders
from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.base.problem import Problem
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.request import Request, RoleNodes

VERSION = 1
PREFIX = "g5kdeploy-"
_LOCK_WAIT = 30.0  # seconds


class RecordState(StrEnum):
    """How much is known of a job."""

    ASKED = "asked"  # the request may or may not have arrived
    KNOWN = "known"  # it has a job id
    RELEASED = "released"  # it is over, and the site said so


@dataclass(frozen=True)
class Record:
    """One reservation as the disk remembers it; `name` is the job's unique name and the file's. Unix times.

    `vlans`, `subnets` and `disks` are what the job got beside nodes. `ends_at` is when its walltime ends, as the site said
    last. `foreign`: the job was made elsewhere and carries another name.
    """

    name: str
    testbed: str
    uri: str
    site: str
    state: RecordState
    asked_at: float
    job: int | None = None
    run: str = ""
    experiment: str = ""
    roles: tuple[RoleNodes, ...] = ()
    vlans: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()
    ends_at: float | None = None
    foreign: bool = False
    released_at: float | None = None
    outcome: str = ""
    version: int = VERSION

    @property
    def released(self) -> bool:
        return self.state is RecordState.RELEASED


class Records:
    """The records of one testbed in a folder (default: state/reservations), one JSON file each.

    What is released lies in a folder below: only that of jobs which may still hold nodes is read at every look.
    """

    def __init__(self, testbed: str, folder: Path | None = None, clock: Clock = SYSTEM) -> None:
        self.testbed = testbed
        self.folder = folder or folders.state() / "reservations"
        self._over = self.folder / "released"
        self.clock = clock

    def all(self) -> list[Record]:
        """All of this testbed's records, the newest first. Raises `Problem` for a file that is no record."""
        return self._sorted(
            {record.name: record for record in (*self._in(self._over), *self._in(self.folder))}.values()
        )

    def unreleased(self, run: str | None = None, experiment: str | None = None) -> list[Record]:
        """Those whose job may still hold nodes, the newest first."""
        found = []
        for record in self._in(self.folder):
            if record.released:  # by a process that ended in between
                self.save(record)
            elif run in (None, record.run) and experiment in (None, record.experiment):
                found.append(record)
        return self._sorted(found)

    def _in(self, folder: Path) -> Iterator[Record]:
        """The records that lie in a folder; one that another command puts elsewhere meanwhile is there or not."""
        for path in folder.glob("*.json") if folder.is_dir() else ():
            try:
                yield _read(path)
            except Problem:
                if path.exists():
                    raise

    def _sorted(self, found: Iterable[Record]) -> list[Record]:
        mine = (record for record in found if record.testbed == self.testbed)
        return sorted(mine, key=lambda record: (-record.asked_at, record.name))

    def get(self, name: str) -> Record | None:
        """The record of that job name as it is on disk now."""
        for path in (self._path(name), self._over / f"{name}.json"):
            if path.exists():
                return _read(path)
        return None

    def of(self, request: Request) -> Record | None:
        """The unreleased record that an earlier call for the same run left on that site."""
        if not request.run:
            return None
        return next((record for record in self.unreleased(run=request.run) if record.site == request.site), None)

    def ask(self, request: Request, uri: str) -> Record:
        """A new record for a request, on disk when this returns; to be called before the request is sent."""
        return self.save(
            Record(
                name=unique_name(request.label),
                testbed=self.testbed,
                uri=uri,
                site=request.site,
                state=RecordState.ASKED,
                asked_at=self.clock.wall(),
                run=request.run,
                experiment=request.experiment,
                roles=request.roles,
            )
        )

    def save(self, record: Record) -> Record:
        """On disk, whole, when this returns."""
        path = self._path(record.name)
        if record.released:
            files.write_json(self._over / path.name, asdict(record), mode=0o600)
            path.unlink(missing_ok=True)
        else:
            files.write_json(path, asdict(record), mode=0o600)
        return record

    def known(self, record: Record, job: Job) -> Record:
        """It has a job; its end, and what it holds beside nodes, is kept with it."""
        return self.save(
            replace(
                record,
                state=RecordState.KNOWN,
                job=job.id,
                vlans=job.vlans,
                subnets=job.subnets,
                disks=job.disks,
                ends_at=job.ends_at if job.running else None,
            )
        )

    def released(self, record: Record, outcome: str) -> Record:
        return self.save(replace(record, state=RecordState.RELEASED, released_at=self.clock.wall(), outcome=outcome))

    @contextlib.contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Keep a second command from working on the same reservation meanwhile; `Held` when one does for long."""
        with files.lock(self.folder / f".{_slug(key)}.lock", f"the reservation of {key}", wait=_LOCK_WAIT):
            yield

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def unique_name(label: str) -> str:
    """A job name that no other job has: the tool, what it is for, and chance; OAR keeps 100 characters."""
    return f"{PREFIX}{_slug(label)[:60]}-{secrets.token_hex(6)}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "experiment"


def _read(path: Path) -> Record:
    value: Any = files.read_json(path)
    try:
        if value["version"] > VERSION:
            raise Problem(
                f"{path} was written by a newer g5kdeploy", cause=f"its version is {value['version']}", hint="update it"
            )
        known = {field.name for field in fields(Record)}
        value = {key: item for key, item in value.items() if key in known}
        roles = tuple(RoleNodes(**{**role, "nodes": tuple(role["nodes"])}) for role in value["roles"])
        got = {name: tuple(value.get(name, ())) for name in ("vlans", "subnets", "disks")}
        return Record(**{**value, **got, "state": RecordState(value["state"]), "roles": roles})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Problem(
            f"{path} is not a reservation record",
            cause=repr(error),
            hint="see with `g5kdeploy status --mine` which jobs you hold, then move the file away",
        ) from error
