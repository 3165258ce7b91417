"""One run's folder: run.json, events.jsonl, metrics/, nodes/; the only module that writes run.json."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g5kdeploy import __version__
from g5kdeploy.base import files
from g5kdeploy.events.event import Event
from g5kdeploy.runs import versions
from g5kdeploy.runs.document import Document

if TYPE_CHECKING:
    from g5kdeploy.experiment.model import Experiment

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # no letters that look alike


ORDER = (
    "build", "vmtest", "push", "reserve", "deploy", "boot", "exporter", "check", "bench", "collect", "report", "release",
)  # fmt: skip
"""The phases and their parts in the order in which they are told, whatever the order in which they were done."""


class PhaseState(StrEnum):
    """What became of a phase; `RUNNING` is also what a killed process leaves."""

    RUNNING = "running"
    DONE = "done"
    PARTLY = "partly"
    FAILED = "failed"


@dataclass
class PhaseRecord:
    """A phase as run.json remembers it: the hash of its inputs, unix times, and what it found out."""

    phase: str
    key: str
    state: PhaseState = PhaseState.RUNNING
    started: float = 0.0
    ended: float | None = None
    detail: str = ""
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        return None if self.ended is None else max(0.0, self.ended - self.started)

    @classmethod
    def from_dict(cls, phase: str, value: Mapping[str, Any]) -> PhaseRecord:
        known = {name: value[name] for name in ("key", "started", "ended", "detail", "result") if name in value}
        return cls(phase=phase, state=PhaseState(value["state"]), **known)


def key_of(*inputs: Any) -> str:
    """The hash of a phase's inputs (anything that JSON can say; paths by their text)."""
    text = json.dumps(inputs, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def new_id(now: float | None = None) -> str:
    """A run id: sorts by time (UTC), and four random letters keep two of the same second apart."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return f"{stamp}-{''.join(secrets.choice(ALPHABET) for _ in range(4))}"


class Run:
    """A run by its folder. Safe to use from several threads; `lock` keeps other processes out."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        self.folder = folder
        self._document = Document(folder / "run.json", document)
        self._lock = threading.Lock()
        self._events_begun = False

    @classmethod
    def create(cls, runs: Path, experiment: Experiment, testbed: str, site: str) -> Run:
        """A new run of an experiment, in a folder of its own below `runs`."""
        runs.mkdir(parents=True, exist_ok=True)
        now = time.time()
        identity = new_id(now)
        aside = runs / f".new-{identity}"
        aside.mkdir()
        text = experiment.file.read_bytes()
        (aside / "experiment.yaml").write_bytes(text)
        folder = runs / identity
        document = {
            "apiVersion": "g5kdeploy/v1",
            "kind": "Run",
            "schemaVersion": versions.CURRENT,
            "id": identity,
            "name": experiment.name,
            "created": now,
            "released": False,
            "testbed": testbed,
            "site": site,
            "experiment": {
                "file": str(experiment.file),
                "fromRun": os.path.relpath(experiment.file, folder),
                "sha256": hashlib.sha256(text).hexdigest(),
                "resolved": experiment.document(),
            },
            "versions": {"g5kdeploy": __version__, "python": platform.python_version(), "client": platform.platform()},
            "phases": {},
            "closures": {},
            "job": None,
            "nodes": {},
            "benchmark": None,
            "samples": None,
            "warnings": [],
        }
        files.write_json(aside / "run.json", document)
        aside.rename(folder)
        return cls(folder, document)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run in a folder. Raises `InvalidUse` for a newer version's, `Problem` for one that cannot be read."""
        path = folder / "run.json"
        document = versions.read(path)
        for name, phase in document["phases"].items():
            if phase["state"] not in set(PhaseState):
                raise versions.damaged(path, f"phases.{name}.state")
        return cls(folder, document)

    # What it is

    @property
    def id(self) -> str:
        return str(self._document.value["id"])

    @property
    def name(self) -> str:
        return str(self._document.value["name"])

    @property
    def testbed(self) -> str:
        return str(self._document.value["testbed"])

    @property
    def site(self) -> str:
        return str(self._document.value["site"])

    @property
    def released(self) -> bool:
        """True when nothing of it is held any more: it is over."""
        return bool(self._document.value["released"])

    @property
    def experiment_file(self) -> Path:
        return Path(self._document.value["experiment"]["file"])

    def _experiment_files(self) -> tuple[str, str]:
        """Where its experiment file was, and where it is when both have been moved together."""
        told = self._document.value["experiment"]
        return str(told["file"]), os.path.abspath(self.folder / told["fromRun"])  # noqa: PTH100

    def belongs_to(self, experiment: Path) -> bool:
        """Whether it is a run of this experiment file."""
        return str(experiment) in self._experiment_files()

    def is_orphan(self) -> bool:
        """Whether its experiment file was deleted or renamed."""
        return not any(os.path.exists(file) for file in self._experiment_files())  # noqa: PTH110

    def document(self) -> dict[str, Any]:
        """A copy of what run.json says."""
        return copy.deepcopy(dict(self._document.value))

    # What changes it

    def set(self, **members: Any) -> None:
        """Set members of run.json: `job`, `closures`, `benchmark`, `samples`, `released`, ..."""
        self._document.change(lambda document: members)

    def warn(self, *texts: str) -> None:
        """Something that whoever reads the results has to know; told once."""
        self._document.change(lambda document: {"warnings": list(dict.fromkeys([*document["warnings"], *texts]))})

    def nodes(self) -> Mapping[str, Mapping[str, Any]]:
        """What is known of each node, by its full name; to be looked at only."""
        nodes: Mapping[str, Mapping[str, Any]] = self._document.value["nodes"]
        return nodes

    def addresses(self) -> dict[str, str]:
        """The names of nodes that answer under another one, as those in a VLAN do."""
        return {name: node["facts"]["address"] for name, node in self.nodes().items() if node["facts"].get("address")}

    def set_node(self, name: str, **members: Any) -> None:
        """Set members of a node: `role`, `stage`, `facts` (merged), `hardware`, `lost_because`."""
        self.set_nodes({name: members})

    def set_nodes(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """The same for many nodes, at the price of one."""

        def make(document: Mapping[str, Any]) -> Mapping[str, Any]:
            known = document["nodes"]
            return {"nodes": {**known, **{name: _node(known.get(name), new) for name, new in changes.items()}}}

        self._document.change(make)

    # Phases

    def phases(self) -> dict[str, PhaseRecord]:
        """The records of all phases that were begun, in the order of a run."""
        known = copy.deepcopy(self._document.value["phases"])
        names = [*(name for name in ORDER if name in known), *(name for name in known if name not in ORDER)]
        return {name: PhaseRecord.from_dict(name, known[name]) for name in names}

    def done(self, phase: str, key: str) -> PhaseRecord | None:
        """The record of a phase that was done with these very inputs; None: it has to be done."""
        record = self.phases().get(phase)
        return record if record and record.state is PhaseState.DONE and record.key == key else None

    @contextlib.contextmanager
    def phase(self, phase: str, key: str) -> Iterator[PhaseRecord]:
        """Record a phase: running now, and at the block's end done (or what `state` was set to), or failed.

        What is put into `result` and `detail` of the record is kept with it.
        """
        record = PhaseRecord(phase, key, started=time.time())
        self._keep(record)
        try:
            yield record
        except BaseException as error:
            record.state, record.ended = PhaseState.FAILED, time.time()
            record.detail = record.detail or str(error) or type(error).__name__
            self._keep(record)
            raise
        if record.state is PhaseState.RUNNING:
            record.state = PhaseState.DONE
        record.ended = time.time()
        self._keep(record)

    def _keep(self, record: PhaseRecord) -> None:
        value = {**asdict(record), "state": record.state.value}
        del value["phase"]
        self._document.change(lambda document: {"phases": {**document["phases"], record.phase: value}})

    # Files beside run.json

    @property
    def manifest_file(self) -> Path:
        """Where the closure manifest is kept."""
        return self.folder / "closure.json"

    @property
    def metrics(self) -> Path:
        """The folder of Parquet files."""
        return self.folder / "metrics"

    @property
    def report_file(self) -> Path:
        return self.folder / "report.html"

    def node_folder(self, node: str) -> Path:
        """The folder of what came back from a node, made if need be."""
        if "/" in node or node in ("", ".", ".."):
            raise ValueError(f"not a node's name: {node!r}")
        folder = self.folder / "nodes" / node
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def lock(self, wait: float = 0.0) -> Iterator[None]:
        """Hold the run against other processes, and see what they did; raises `Held` (exit code 7), naming the holder."""
        with files.lock(self.folder / ".lock", f"run {self.id}", wait):
            self._document.see(versions.read(self.folder / "run.json"))
            yield

    def sink(self, event: Event) -> None:
        """Append an event to events.jsonl; a sink for an `Emitter`. On a full disk it is left out: a log ends no run."""
        line = json.dumps({**event.as_dict(), "run": self.id}, ensure_ascii=False) + "\n"
        path = self.folder / "events.jsonl"
        with self._lock, contextlib.suppress(OSError):
            begun, self._events_begun = self._events_begun, False
            with path.open("a+b") as file:
                if not begun and _is_torn(path):
                    file.write(b"\n")
                file.write(line.encode())
            self._events_begun = True

    def events(self) -> Iterator[dict[str, Any]]:
        """The events so far; a line that a killed process left half written is passed over."""
        path = self.folder / "events.jsonl"
        if not path.exists():
            return
        with path.open(errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        yield event


def _node(known: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a node, with what is new."""
    node = known or {"role": "", "stage": "reserved", "facts": {}, "hardware": {}}
    return {**node, **new, "facts": {**node["facts"], **new.get("facts", {})}}


def _is_torn(path: Path) -> bool:
    """Whether the last line has no end."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
