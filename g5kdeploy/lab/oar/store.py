"""What the scheduler knows, in one sqlite file: a killed process leaves the last whole step behind."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.oar.grammar import Alternative, Group
from g5kdeploy.lab.oar.inventory import Mask
from g5kdeploy.lab.oar.model import FINAL_STATES, OUT_OF_PLAN, Event, NodeState

VERSION = 4

_SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL, state TEXT NOT NULL, queue TEXT NOT NULL,
    project TEXT NOT NULL, name TEXT, types TEXT NOT NULL, command TEXT, script TEXT, directory TEXT NOT NULL,
    properties TEXT NOT NULL, message TEXT NOT NULL, initial_request TEXT NOT NULL, reservation TEXT NOT NULL,
    requested_start INTEGER NOT NULL, submitted_at INTEGER NOT NULL, started_at INTEGER NOT NULL,
    stopped_at INTEGER NOT NULL, scheduled_at INTEGER, exit_code INTEGER, alternative INTEGER NOT NULL,
    resubmits INTEGER NOT NULL, assigned TEXT NOT NULL, predicted TEXT NOT NULL, stage TEXT NOT NULL,
    due REAL NOT NULL, change TEXT, array INTEGER NOT NULL, array_index INTEGER NOT NULL, anterior TEXT NOT NULL,
    checkpoint INTEGER NOT NULL, signal INTEGER NOT NULL, notify TEXT NOT NULL, stdout TEXT NOT NULL,
    stderr TEXT NOT NULL
);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_by_user ON jobs (user);
CREATE TABLE alternatives (
    job INTEGER NOT NULL, number INTEGER NOT NULL, walltime INTEGER NOT NULL, groups TEXT NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, type TEXT NOT NULL, at INTEGER NOT NULL,
    description TEXT NOT NULL
);
CREATE INDEX events_by_job ON events (job);
CREATE TABLE states (job INTEGER NOT NULL, state TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX states_by_job ON states (job);
CREATE TABLE frags (job INTEGER PRIMARY KEY, user TEXT NOT NULL, at INTEGER NOT NULL);
CREATE TABLE nodes (address TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
"""

_FROM_1 = """
ALTER TABLE jobs ADD COLUMN array INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN array_index INTEGER NOT NULL DEFAULT 1;
ALTER TABLE jobs ADD COLUMN anterior TEXT NOT NULL DEFAULT '[]';
"""
_FROM_2 = """
ALTER TABLE jobs ADD COLUMN checkpoint INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN signal INTEGER NOT NULL DEFAULT 12;
"""
_FROM_3 = """
ALTER TABLE jobs ADD COLUMN notify TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN stdout TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN stderr TEXT NOT NULL DEFAULT '';
"""
_LACKING = {1: _FROM_1 + _FROM_2 + _FROM_3, 2: _FROM_2 + _FROM_3, 3: _FROM_3}
"""What stores of earlier versions lack."""


@dataclass
class Change:
    """The one walltime change request that a job can have; seconds."""

    pending: int
    force: bool = False
    delay_next_jobs: bool = False
    whole: bool = False
    timeout: int = 0
    asked_at: int = 0
    granted: int = 0
    granted_with_force: int = 0
    granted_with_delay_next_jobs: int = 0
    granted_with_whole: int = 0


@dataclass
class Entry:
    """A job as the scheduler works on it; `Store.save` keeps what was changed."""

    user: str
    queue: str
    project: str
    types: tuple[str, ...]
    command: str | None
    directory: str
    properties: str
    message: str
    submitted_at: int
    alternatives: list[Alternative]
    id: int = 0
    state: str = "Waiting"
    name: str | None = None
    script: str | None = None
    initial_request: str = ""
    reservation: str = "None"
    requested_start: int = 0
    started_at: int = 0
    stopped_at: int = 0
    scheduled_at: int | None = None
    exit_code: int | None = None
    alternative: int = 0
    resubmits: int = 0
    assigned: Mask = 0
    predicted: Mask = 0
    stage: str = ""
    """Where it is between two states: `begun`, `kill`, `killed`, `vain`, `suspect`, ..."""
    due: float = 0.0
    """When the next step of its life is to be done; 0 when none is."""
    change: Change | None = None
    array: int = 0
    """The first job of the array that it is of; 0 for none."""
    array_index: int = 1
    anterior: tuple[int, ...] = ()
    checkpoint: int = 0
    """How many seconds before its end the job is to be told; 0 for not at all."""
    signal: int = 12
    """How it is told."""
    notify: str = ""
    """Whom to tell of its life, and of what: `[END,ERROR]mail:jdoe@here`, `exec:/home/jdoe/told`; empty for nobody."""
    stdout: str = ""
    """Where its output goes, as its user asked for it; empty for the usual file."""
    stderr: str = ""

    @property
    def walltime(self) -> int:
        """Seconds, of the alternative that it runs (or would run first)."""
        return self.alternatives[self.alternative].walltime or 0

    def has_type(self, name: str) -> bool:
        """Whether a type is there, alone or with a value (`inner=12`)."""
        return self.type_value(name) is not None

    def type_value(self, name: str) -> str | None:
        """The value of a type: empty for one without value, None for one that is not there."""
        for text in self.types:
            key, _, value = text.partition("=")
            if key == name:
                return value
        return None


_COLUMNS = [column.name for column in fields(Entry) if column.name not in ("id", "alternatives")]
_INSERT = f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' for _ in _COLUMNS)})"  # noqa: S608
_UPDATE = f"UPDATE jobs SET {', '.join(f'{c} = ?' for c in _COLUMNS)} WHERE id = ?"  # noqa: S608


class Store:
    """Two connections to the file: one writes, under its owner's lock; the other reads whole states meanwhile."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._writer = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = NORMAL")
            self._create()
            self.reader = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self.reader.execute("PRAGMA query_only = ON")
        except sqlite3.DatabaseError as error:
            raise Problem(
                f"the scheduler's store {path} cannot be used",
                cause=str(error),
                hint="remove it to begin anew: the lab's jobs are then forgotten",
            ) from error

    def _create(self) -> None:
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version == VERSION:
            return
        if version in _LACKING:
            self._writer.executescript(f"BEGIN; {_LACKING[version]} PRAGMA user_version = {VERSION}; COMMIT;")
            return
        if version:
            raise sqlite3.DatabaseError(f"it was written by another version of g5kdeploy ({version}, not {VERSION})")
        self._writer.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside, or nothing of it."""
        if self._writer.in_transaction:
            yield
            return
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise
        self._writer.execute("COMMIT")

    def close(self) -> None:
        self.reader.close()
        self._writer.close()

    def add(self, entry: Entry) -> None:
        """Keep a new job, and give it its number."""
        cursor = self._writer.execute(_INSERT, _values(entry))
        entry.id = int(cursor.lastrowid or 0)
        rows = [
            (entry.id, number, alternative.walltime, json.dumps([asdict(group) for group in alternative.groups]))
            for number, alternative in enumerate(entry.alternatives)
        ]
        self._writer.executemany("INSERT INTO alternatives VALUES (?, ?, ?, ?)", rows)
        self._writer.execute("INSERT INTO states VALUES (?, ?, ?)", (entry.id, entry.state, entry.submitted_at))

    def save(self, entry: Entry) -> None:
        """Keep the present fields of a job."""
        self._writer.execute(_UPDATE, (*_values(entry), entry.id))

    def set_walltime(self, entry: Entry, walltime: int) -> None:
        """Change the walltime of the job's alternative, in seconds."""
        old = entry.alternatives[entry.alternative]
        entry.alternatives[entry.alternative] = Alternative(old.groups, walltime)
        self._writer.execute(
            "UPDATE alternatives SET walltime = ? WHERE job = ? AND number = ?", (walltime, entry.id, entry.alternative)
        )

    def log_state(self, entry: Entry, at: int) -> None:
        self._writer.execute("INSERT INTO states VALUES (?, ?, ?)", (entry.id, entry.state, at))

    def add_event(self, job: int, kind: str, at: int, description: str) -> None:
        self._writer.execute(
            "INSERT INTO events (job, type, at, description) VALUES (?, ?, ?, ?)", (job, kind, at, description)
        )

    def add_frag(self, job: int, user: str, at: int) -> None:
        """Note that somebody asked for this job's end: it can be asked once."""
        self._writer.execute("INSERT INTO frags VALUES (?, ?, ?)", (job, user, at))

    def is_fragged(self, job: int) -> bool:
        return self._writer.execute("SELECT 1 FROM frags WHERE job = ?", (job,)).fetchone() is not None

    def fragged_at(self, job: int) -> int:
        """When this job's end was asked for; 0 for never."""
        found = self._writer.execute("SELECT at FROM frags WHERE job = ?", (job,)).fetchone()
        return int(found[0]) if found else 0

    def has_event(self, job: int, kind: str) -> bool:
        query = "SELECT 1 FROM events WHERE job = ? AND type = ?"
        return self._writer.execute(query, (job, kind)).fetchone() is not None

    def is_resubmitted(self, job: int) -> bool:
        return self._writer.execute("SELECT 1 FROM jobs WHERE resubmits = ?", (job,)).fetchone() is not None

    def last_event_at(self, job: int, kind: str) -> int:
        """When an event of that kind was last noted for the job; 0 for never."""
        query = "SELECT MAX(at) FROM events WHERE job = ? AND type = ?"
        return int(self._writer.execute(query, (job, kind)).fetchone()[0] or 0)

    def set_node_state(self, address: str, state: NodeState) -> None:
        self._writer.execute("INSERT OR REPLACE INTO nodes VALUES (?, ?)", (address, state))

    def node_states(self) -> dict[str, NodeState]:
        return dict(self._writer.execute("SELECT address, state FROM nodes"))

    def live(self) -> list[Entry]:
        """Every job that is not over, by number."""
        marks = ", ".join("?" for _ in FINAL_STATES)
        return self.entries(f"state NOT IN ({marks}) ORDER BY id", tuple(FINAL_STATES))

    def out_of_plan(self) -> list[Entry]:
        """The jobs that ended or were held after the last pass, which are still in the plan."""
        marks = ", ".join("?" for _ in OUT_OF_PLAN)
        where = f"state IN ({marks}) AND (scheduled_at IS NOT NULL OR predicted != '0') ORDER BY id"
        return self.entries(where, tuple(OUT_OF_PLAN))

    def entry(self, number: int) -> Entry | None:
        """One job, over or not."""
        return next(iter(self.entries("id = ?", (number,))), None)

    def entries(self, where: str, values: tuple[object, ...]) -> list[Entry]:
        """The jobs that pass a condition; for the writing side."""
        return read_entries(self._writer, where, values)


def read_entries(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Entry]:
    """Jobs with their alternatives; `where` is SQL of ours, `values` fill its question marks."""
    query = f"SELECT id, {', '.join(_COLUMNS)} FROM jobs WHERE {where}"  # noqa: S608
    rows = connection.execute(query, values).fetchall()
    alternatives: dict[int, list[Alternative]] = {row[0]: [] for row in rows}
    chosen = list(alternatives)
    for begin in range(0, len(chosen), 500):
        part = chosen[begin : begin + 500]
        marks = ", ".join("?" for _ in part)
        query = f"SELECT job, walltime, groups FROM alternatives WHERE job IN ({marks}) ORDER BY job, number"  # noqa: S608
        for job, walltime, groups in connection.execute(query, part):
            parsed = tuple(Group(g["filter"], tuple((n, c) for n, c in g["levels"])) for g in json.loads(groups))
            alternatives[job].append(Alternative(parsed, walltime))
    return [_entry(row, alternatives[row[0]]) for row in rows]


def read_events(connection: sqlite3.Connection, jobs: list[int]) -> dict[int, tuple[Event, ...]]:
    """The events of some jobs, in order."""
    found: dict[int, list[Event]] = {}
    for begin in range(0, len(jobs), 500):
        part = jobs[begin : begin + 500]
        marks = ", ".join("?" for _ in part)
        query = f"SELECT id, job, type, at, description FROM events WHERE job IN ({marks}) ORDER BY id"  # noqa: S608
        for row in connection.execute(query, part):
            found.setdefault(row[1], []).append(Event(*row))
    return {job: tuple(events) for job, events in found.items()}


def _values(entry: Entry) -> tuple[object, ...]:
    coded = {
        "types": json.dumps(entry.types),
        "anterior": json.dumps(entry.anterior),
        "assigned": f"{entry.assigned:x}",
        "predicted": f"{entry.predicted:x}",
        "change": json.dumps(asdict(entry.change)) if entry.change else None,
    }
    return tuple(coded[name] if name in coded else getattr(entry, name) for name in _COLUMNS)


def _entry(row: tuple[object, ...], alternatives: list[Alternative]) -> Entry:
    values: dict[str, object] = dict(zip(("id", *_COLUMNS), row, strict=True))
    for name in ("types", "anterior"):
        values[name] = tuple(json.loads(str(values[name])))
    for name in ("assigned", "predicted"):
        values[name] = int(str(values[name]), 16)
    values["change"] = Change(**json.loads(str(values["change"]))) if values["change"] else None
    return Entry(**values, alternatives=alternatives)  # type: ignore[arg-type]
