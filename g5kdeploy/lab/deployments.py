"""Deployments as kadeploy and the API server keep them: rights, states, results; what runs them is a `Deployer`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.lab.fetch import over_http
from g5kdeploy.lab.kaenv import Environments
from g5kdeploy.lab.kavlan import DEFAULT, Kavlan

MACRO_STEPS = ("SetDeploymentMiniOS", "BroadcastEnv", "BootNewEnv")
"""Kadeploy's three macro steps, in their order."""

PROCESSING, TERMINATED, ERROR, CANCELED = "processing", "terminated", "error", "canceled"
FORGOTTEN = "The deployment no longer exists on the Kadeploy server"
NO_RIGHTS = "You do not have sufficient rights to perform the operation on all the nodes"
SORTED = 10
"""A table is sorted for a list when it has no more rows than so many times those of the list."""
LONGEST_NAME = 255  # the width of the column

Report = Callable[[str, str, bool | None, str], None]
"""`report(node, macro_step, ok, text)`: ok None = the node is in that step now, `text` the micro step; False = the
node is lost in that step (KO), `text` the reason; True = the node is deployed (only its last step says so). An empty
node name with False: the workflow itself broke down."""

_WORD = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})"
_PART = rf"(?:{_WORD}|[:@])"
_HOST = rf"(?:(?:{_WORD}|:)*@)?(?:\[[0-9A-Fa-fv:.]+\]|{_WORD}*)(?::\d*)?"
_PATH = rf"//{_HOST}(?:/{_PART}*)*|/(?:{_PART}+(?:/{_PART}*)*)?|(?(scheme){_PART}|(?:{_WORD}|@))+(?:/{_PART}*)*"
_URI = re.compile(
    rf"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?(?:{_PATH})?(?:\?(?:{_PART}|[/?])*)?(?:#(?:{_PART}|[/?])*)?"
)
"""A URI, absolute or relative, after RFC 3986."""


class NotDeployable(Exception):
    """A deployment that kadeploy or the API server refuses; `status` is the HTTP status that the client sees."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass
class Deployment:
    """One deployment. Times are unix seconds; None stands for what was not given and is left out of documents.

    `description` is the environment's description (kaenv's YAML as a mapping) and `keys` the text of the public
    keys; both are for the deployer alone, the API shows `environment` and the URL `key`.
    """

    uid: str
    site_uid: str
    user_uid: str
    environment: str
    nodes: list[Any]
    version: str | None = None
    arch: str | None = None
    status: str = PROCESSING
    key: str | None = None
    partition_label: str | None = None
    block_device: str | None = None
    reformat_tmp: str | None = None
    vlan: int | None = None
    disable_disk_partitioning: bool = False
    disable_bootloader_install: bool = False
    ignore_nodes_deploying: bool = False
    result: dict[str, dict[str, Any]] | None = None
    output: str | None = None
    created_at: int = 0
    updated_at: int = 0
    description: dict[str, Any] = field(default_factory=dict)
    keys: str = ""


class Deployer(Protocol):
    """What brings environments onto nodes."""

    def start(self, deployment: Deployment, report: Report) -> None:
        """Begin, and return at once; `report` is called from any thread until every node has its end."""

    def cancel(self, uid: str) -> None:
        """Give up on a deployment; nodes stay as they are."""


class Workflow:
    """One deployment under way: where each node is, as kadeploy's own API tells it."""

    def __init__(self, nodes: Iterable[Any]) -> None:
        self.broken = ""
        self.nodes: dict[str, dict[str, Any]] = {
            str(node): {"macro": MACRO_STEPS[0], "micro": "reboot", "state": "IN_PROGRESS"} for node in nodes
        }

    def report(self, node: str, step: str, ok: bool | None, text: str) -> None:
        """Take a report; what comes after a node's end is dropped."""
        if not node:
            self.broken = text or "the workflow broke down"
            return
        if self.nodes.get(node, {}).get("state") != "IN_PROGRESS":
            return
        if ok:
            self.nodes[node] = {"macro": None, "micro": None, "state": "OK"}
        elif ok is None:
            self.nodes[node] = {"macro": step, "micro": text or None, "state": "IN_PROGRESS"}
        else:
            self.nodes[node] = {"macro": step, "micro": self.nodes[node]["micro"], "state": "KO", "error": text}

    def done(self) -> bool:
        return all(node["state"] != "IN_PROGRESS" for node in self.nodes.values())


class Deployments:
    """All deployments of the lab, in a database that survives restarts; what runs is in memory, as in kadeploy.

    `rights(user, nodes)` says whether the user holds all these nodes in a running job of type deploy; `kavlans` are
    the VLANs by site, where nodes end up in the one that a deployment names. `fetch(url)` reads a description or a
    key from a URL; `refuses(deployment)` says why this site's kadeploy does not take it ("": it does). With `end_hook`,
    the end of a deployment is seen at once, as on the real sites; without it only a
    refresh (PUT) shows anything. `files` keeps keys that came as text.
    """

    def __init__(
        self,
        store: Path | str,
        deployer: Deployer,
        environments: Environments,
        *,
        rights: Callable[[str, list[str]], bool],
        kavlans: Mapping[str, Kavlan] | None = None,
        fetch: Callable[[str], bytes] = over_http,
        refuses: Callable[[Deployment], str] = lambda wanted: "",
        end_hook: bool = True,
        clock: Clock = SYSTEM,
        new_uid: Callable[[], str] = lambda: f"D-{uuid.uuid4()}",
    ) -> None:
        self.deployer, self.environments, self.rights, self.fetch = deployer, environments, rights, fetch
        self.kavlans = kavlans or {}
        self.refuses, self.end_hook, self.clock, self.new_uid = refuses, end_hook, clock, new_uid
        self.files: dict[str, str] = {}
        self.running: dict[str, Workflow] = {}
        self._lock = threading.RLock()
        self._database = sqlite3.connect(str(store), check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS deployments ("
            "uid TEXT PRIMARY KEY COLLATE NOCASE, user_uid TEXT COLLATE NOCASE, status TEXT COLLATE NOCASE,"
            " created_at INTEGER, document TEXT NOT NULL)"
        )

    def close(self) -> None:
        """Close the database; what deployers report afterwards is lost."""
        with self._lock:
            self.end_hook = False
            self._database.close()

    def launch(self, wanted: Deployment, files_url: str) -> Deployment:
        """Check and begin a deployment, as the API server and kadeploy do together; `wanted` has no uid yet.

        A key given as text is kept in `files` and shown as a URL below `files_url`. Raises `NotDeployable`.
        """
        key_text = self._keep_key(wanted, files_url)
        for column in ("environment", "version", "partition_label", "block_device", "reformat_tmp", "arch"):
            if len(getattr(wanted, column) or "") > LONGEST_NAME:
                raise NotDeployable(500, f"Mysql2::Error: Data too long for column '{column}' at row 1")
        wanted.description = wanted.description or self._describe(wanted)
        if not self.rights(wanted.user_uid, [str(node) for node in wanted.nodes]):
            raise NotDeployable(400, f"{NO_RIGHTS}\n")
        if why := self.refuses(wanted):
            raise NotDeployable(400, f"{why}\n")
        kavlan = self.kavlans.get(wanted.site_uid)
        if wanted.vlan and kavlan is not None and wanted.user_uid not in kavlan.users_of(str(wanted.vlan)):
            raise NotDeployable(400, f"Invalid VLAN -- {wanted.vlan}\n")
        self._check_idle(wanted)
        wanted.keys = key_text if key_text is not None else self._read_key(wanted)
        wanted.uid, wanted.status = self.new_uid(), PROCESSING
        wanted.created_at = wanted.updated_at = int(self.clock.wall())
        with self._lock:
            self._check_idle(wanted)  # another may have begun while the key was fetched
            workflow = self.running[wanted.uid] = Workflow(wanted.nodes)
            self._save(wanted)

        def report(node: str, step: str, ok: bool | None, text: str) -> None:
            if kavlan is not None and ok is None and step == MACRO_STEPS[-1]:
                kavlan.note(node, str(wanted.vlan) if wanted.vlan else DEFAULT)
            with self._lock:
                workflow.report(node, step, ok, text)
                if workflow.done() and not workflow.broken and self.end_hook:
                    self.refresh(wanted.uid)

        self.deployer.start(wanted, report)
        return wanted

    def _check_idle(self, wanted: Deployment) -> None:
        busy = sorted(set(map(str, wanted.nodes)) & self.deploying())
        if busy and not wanted.ignore_nodes_deploying:
            raise NotDeployable(400, f"Nodes already deploying -- {', '.join(busy)}\n")

    def get(self, uid: str) -> Deployment | None:
        """The deployment of that uid, in any case of letters."""
        with self._lock:
            row = self._database.execute("SELECT document FROM deployments WHERE uid = ?", (uid,)).fetchone()
        return Deployment(**json.loads(row[0])) if row else None

    def every(
        self,
        users: Sequence[str] | None = None,
        statuses: Sequence[str] | None = None,
        oldest_first: bool = False,
        wanted: int = 0,
    ) -> list[Deployment]:
        """All of any of these users and statuses (None: whatever they are), the newest first.

        `wanted` is up to which one of them the list is of interest. As in the real server's database: where that is a
        small part of the table, an index is followed, and those of one second come the newest first; where it is not,
        everything is sorted, and they come as they were made.
        """
        with self._lock:
            rows = self._database.execute("SELECT COUNT(*) FROM deployments").fetchone()[0]
            found = self._database.execute(
                "SELECT document FROM deployments WHERE (?1 IS NULL OR user_uid IN (SELECT value FROM json_each(?1)))"
                " AND (?2 IS NULL OR status IN (SELECT value FROM json_each(?2))) ORDER BY rowid",
                [None if one is None else json.dumps(list(one)) for one in (users, statuses)],
            ).fetchall()
        every = [Deployment(**json.loads(row[0])) for row in found]
        if oldest_first:
            return sorted(every, key=lambda one: one.created_at)
        if rows > SORTED * wanted:
            every.reverse()
        return sorted(every, key=lambda one: -one.created_at)

    def refresh(self, uid: str) -> None:
        """Take over what kadeploy says of a deployment; one whose workflow broke down stays as it is, for ever."""
        with self._lock:
            found = self.get(uid)
            if found is None or found.status != PROCESSING:
                return
            workflow = self.running.get(found.uid)
            if workflow is None:
                found.status, found.output = ERROR, FORGOTTEN
            elif workflow.broken:
                return
            else:
                found.result = {name: dict(state) for name, state in workflow.nodes.items()}
                if workflow.done():
                    found.status = TERMINATED
                    del self.running[found.uid]
            self._save(found)

    def cancel(self, uid: str) -> None:
        """Cancel what is still under way; nothing otherwise."""
        with self._lock:
            found = self.get(uid)
            if found is None or found.status != PROCESSING:
                return
            self.running.pop(found.uid, None)
            found.status = CANCELED
            self._save(found)
        self.deployer.cancel(found.uid)

    def _save(self, one: Deployment) -> None:
        one.updated_at = int(self.clock.wall())
        self._database.execute(
            "INSERT INTO deployments VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (uid) DO UPDATE SET status = excluded.status, document = excluded.document",
            (one.uid, one.user_uid, one.status, one.created_at, json.dumps(dataclasses.asdict(one))),
        )

    def broken(self, uid: str) -> str:
        """Why the workflow of a deployment broke down as a whole; "" when it did not."""
        with self._lock:
            workflow = self.running.get(uid)
        return workflow.broken if workflow is not None else ""

    def steps(self, uid: str) -> dict[str, str]:
        """The macro step that each node of a deployment is in; nothing of those that have their end."""
        with self._lock:
            workflow = self.running.get(uid)
            nodes = workflow.nodes if workflow is not None else {}
            return {name: str(state["macro"]) for name, state in nodes.items() if state["state"] == "IN_PROGRESS"}

    def deploying(self) -> set[str]:
        """The nodes on which a deployment is under way."""
        with self._lock:
            return {
                name
                for workflow in self.running.values()
                for name, state in workflow.nodes.items()
                if state["state"] == "IN_PROGRESS"
            }

    def _keep_key(self, wanted: Deployment, files_url: str) -> str | None:
        """Keep a key that came as text and put its URL in its place; None when it came as a URL, or not at all."""
        if wanted.key is None or scheme_of(wanted.key):
            return None
        name = f"{wanted.user_uid}-key-{hashlib.sha1(wanted.key.encode(), usedforsecurity=False).hexdigest()}"
        text = self.files[name] = wanted.key
        wanted.key = f"{files_url}/{name}"
        return text

    def _read_key(self, wanted: Deployment) -> str:
        if wanted.key is None:
            return ""
        try:
            return self.fetch(wanted.key).decode(errors="replace")
        except OSError as error:
            raise NotDeployable(400, f"Invalid file -- unable to grab the file {wanted.key}: {error}\n") from error

    def _describe(self, wanted: Deployment) -> dict[str, Any]:
        """The environment's description: by name from the registered ones, by URL from there."""
        if not wanted.environment.isascii():
            escaped = "".join(one if one.isascii() else f"\\u{ord(one):04X}" for one in wanted.environment)
            raise NotDeployable(500, f'URI must be ascii only "{escaped}"')
        if not _URI.fullmatch(wanted.environment):
            raise NotDeployable(500, f"bad URI(is not URI?): {json.dumps(wanted.environment)}")
        scheme = scheme_of(wanted.environment)
        if scheme in ("http", "https"):
            return self._fetch_description(wanted.environment)
        if scheme:
            raise NotDeployable(500, f"Error fetching the image description file: {scheme} protocol not supported yet")
        name, _, owner = wanted.environment.partition("@")
        found = self.environments.find(name, owner or None, wanted.user_uid, wanted.version, wanted.arch)
        if found is None:
            given = f"{wanted.environment}:{wanted.version or ''}:{wanted.arch or ''}:"
            raise NotDeployable(400, f"Invalid environment specification -- the environment {given} does not exist\n")
        return found

    def _fetch_description(self, url: str) -> dict[str, Any]:
        import yaml

        trouble = "Error fetching the image description file: "
        try:
            described = yaml.safe_load(self.fetch(url))
        except (OSError, yaml.YAMLError) as error:
            raise NotDeployable(500, f"{trouble}{error}") from error
        if not isinstance(described, dict):  # what happens to a page that says "not found" in HTML
            raise NotDeployable(500, f"{trouble}IndexError, string not matched")
        return {str(key): value for key, value in described.items()}


def scheme_of(text: str) -> str:
    """The scheme of a URL, "" for what is none: a name, or text that holds what no URL may hold."""
    match = _URI.fullmatch(text)
    return (match["scheme"] or "").lower() if match else ""
