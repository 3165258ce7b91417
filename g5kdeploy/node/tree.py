"""A command on many nodes through ClusterShell's tree: one connection to a site's frontend, which reaches its nodes.

A node has an answer through the tree only if the command began there. Where it did not (no login from the frontend,
another host key, an old OpenSSH), the answer is None: the direct way finds out why, and tells.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import pickle
import re
import shlex
import threading
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from hashlib import sha256
from pathlib import Path
from typing import Any

import ClusterShell
from ClusterShell import Communication
from ClusterShell.Event import EventHandler
from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet
from ClusterShell.Task import TimeoutError as TreeTimeout
from ClusterShell.Task import task_self, task_terminate
from ClusterShell.Topology import TopologyGraph
from ClusterShell.Worker.Ssh import SshClient, WorkerSsh
from ClusterShell.Worker.Tree import TreeWorker

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.node.agent import lent
from g5kdeploy.node.problems import Result, Unreachable, broke, overflow, shorten
from g5kdeploy.node.reach import Reach, Seen
from g5kdeploy.node.remote import Remote

log = logging.getLogger(__name__)

INFO = "g5kdeploy"  # as in gateway_program
AT_ONCE = 64  # connections from a frontend to its nodes at the same moment
OLDEST = (8, 9)  # the OpenSSH that says to an agent which machine it is asked for
GRACE = 30.0  # seconds for an agent to be cleared away
HEAD = "g5kdeploy-head"  # our own name in the topology

Answer = Result | Problem | None


class Tree:
    """The command running on all nodes of `branches` (frontend -> its nodes); a context manager that ends it."""

    def __init__(
        self,
        reach: Reach,
        branches: Mapping[str, Mapping[str, Seen]],
        user: str,
        command: str,
        deadline: Deadline,
        limit: int,
    ) -> None:
        self._branches = [
            _Branch(reach, gateway, nodes, user, command, deadline, limit) for gateway, nodes in branches.items()
        ]
        self._threads = [threading.Thread(target=branch.run, name="tree", daemon=True) for branch in self._branches]
        self._answers = {name: future for branch in self._branches for name, future in branch.answers.items()}

    def answer(self, name: str) -> Answer:
        """What a node answered, once it did; None when the command did not begin there, or it is none of these."""
        future = self._answers.get(name)
        return future.result() if future else None

    def __enter__(self) -> Tree:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for branch in self._branches:
            branch.stop()
        for branch, thread in zip(self._branches, self._threads, strict=True):
            if branch.lending:
                thread.join(GRACE)


class _Branch(EventHandler):  # type: ignore[misc]
    """A frontend and its nodes: ClusterShell's task in a thread of its own, and the events that it sends."""

    def __init__(
        self,
        reach: Reach,
        gateway: str,
        nodes: Mapping[str, Seen],
        user: str,
        command: str,
        deadline: Deadline,
        limit: int,
    ) -> None:
        super().__init__()
        self._limit = limit
        self.gateway = gateway
        self.answers: dict[str, Future[Answer]] = {name: Future() for name in nodes}
        self._reach, self._nodes, self._user, self._command, self._deadline = reach, nodes, user, command, deadline
        self._given: set[str] = set()  # nodes that the frontend was told of
        self._process: Any = None
        self._over = False
        self.lending = False  # there is an agent, or soon

    def run(self) -> None:
        """Whatever goes wrong here, each node has its answer in the end."""
        try:
            remote = self._reach.remote(self.gateway, None)
            archive = push(remote, self._deadline)
            identities = dict.fromkeys(path for hop, _ in self._nodes.values() for path in hop.keys)
            shown = [key for _, keys in self._nodes.values() for key in keys]
            way = self.gateway, self._reach.seen(self.gateway, None)[1]
            self.lending = True
            if self._over:
                raise Unreachable(f"{self.gateway} is not needed any more")
            with lent(identities, way, self._user, shown, self._deadline) as agent:
                login = self._reach.ssh_command(self.gateway, None, batch=True)
                # ssh forwards no agent at all where it finds none for itself
                environ = {"SSH_AUTH_SOCK": os.environ.get("SSH_AUTH_SOCK") or str(agent)}
                login[1:1] = ["-o", f"ForwardAgent={agent}"]
                self._climb(login, environ, f"python3 {shlex.quote(archive)}")
        except Exception as error:  # noqa: BLE001  the direct way is there
            log.debug("no tree over %s: %r", self.gateway, error)
        for name, future in self.answers.items():
            if not future.done():
                future.set_result(self._unanswered(name))

    def stop(self) -> None:
        """End the connection to the frontend, and with it all that runs there."""
        self._over = True
        process = self._process
        if process is not None:
            with contextlib.suppress(OSError):
                process.kill()

    def _climb(self, login: Sequence[str], environ: Mapping[str, str], invocation: str) -> None:
        branch = self

        class Login(SshClient):  # type: ignore[misc]
            """The connection to the frontend."""

            def _build_cmd(self) -> tuple[list[str], Mapping[str, str]]:
                return [*login, self.command], environ

            def _start(self) -> Login:
                super()._start()
                branch._process = self.popen
                if branch._over:
                    branch.stop()
                return self

        class Logins(WorkerSsh):  # type: ignore[misc]
            """What ClusterShell makes of it."""

            SHELL_CLASS = Login

        Communication.Message.data_decode = _plain
        names = NodeSet.fromlist(list(self._nodes), resolver=RESOLVER_NOGROUP)
        graph = TopologyGraph()
        graph.add_route(NodeSet(HEAD), NodeSet(self.gateway, resolver=RESOLVER_NOGROUP))
        graph.add_route(NodeSet(self.gateway, resolver=RESOLVER_NOGROUP), names)
        task = task_self()
        try:
            task.set_default("distant_worker", Logins)
            for stream in ("stdout_msgtree", "stderr_msgtree"):
                task.set_default(stream, False)
            task.set_info("fanout", AT_ONCE)
            task.set_info("grooming_delay", 0)  # no two answers are equal: each has its seconds
            nodes = {n: (hop.host, hop.port, [str(key) for key in keys]) for n, (hop, keys) in self._nodes.items()}
            task.set_info(
                INFO, {"command": self._command.encode(), "user": self._user, "nodes": nodes, "limit": self._limit}
            )
            task.topology = graph.to_tree(HEAD)
            worker = TreeWorker(
                names, self, self._deadline.remaining(), command=INFO, topology=task.topology, stderr=True
            )
            worker.invoke_gateway = invocation
            task.schedule(worker)
            task.resume(max(self._deadline.remaining(), 0.001))
        except TreeTimeout:
            log.debug("the deadline passed on %s", self.gateway)
        finally:
            self._process = None  # its number may soon be another one's
            task_terminate()

    def ev_pickup(self, worker: Any, node: str) -> None:
        self._given.add(node)

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:
        future = self.answers.get(node)
        if future is None or future.done():
            log.debug("%s: %s", node, msg.decode(errors="replace"))
            return
        said = json.loads(msg)
        data, stderr = (base64.b64decode(said[name]) for name in ("stdout", "stderr"))
        if not said["begun"]:
            future.set_result(None)
        elif said["over"]:
            future.set_result(overflow(node, shorten(self._command), self._limit))
        elif said["status"] is None:
            future.set_result(broke(node, shorten(self._command), f"{self.gateway} lost it"))
        else:
            texts = [raw.decode(errors="replace") for raw in (data, stderr)]
            future.set_result(Result(texts[0], texts[1], said["status"], said["seconds"], data))

    def _unanswered(self, name: str) -> Answer:
        if name not in self._given:
            return None
        if self._deadline.passed():
            return self._deadline.error("the command did not end")
        return broke(name, shorten(self._command), f"the connection to {self.gateway} ended")


def _plain(message: Any) -> Any:
    """The payload of a message from a frontend. ClusterShell pickles; only what needs no class or function is taken."""
    try:
        return _Plain(io.BytesIO(base64.b64decode(message.data))).load()
    except Exception as error:
        raise Communication.MessageProcessingError(f"no plain payload: {error}") from error


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


def push(gateway: Remote, deadline: Deadline) -> str:
    """Bring ClusterShell and our program to a frontend that has not got them; their path there."""
    archive = _archive()
    digest = sha256(archive).hexdigest()
    place = f".cache/g5kdeploy/tree-{digest[:16]}.pyz"
    asked = gateway.run(f'ssh -V 2>&1; echo "$HOME"; sha256sum "$HOME/{place}" 2>/dev/null || true', deadline)
    version, home, there = asked.stdout.split("\n", 2)
    found = re.match(r"OpenSSH_(\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < OLDEST:
        raise Unreachable(f"{gateway.name} has too old an OpenSSH", cause=version)
    path = f"{home}/{place}"
    if not there.startswith(digest):
        gateway.put(archive, path, deadline)
    return path


def _archive() -> bytes:
    """A zip file that `python3` runs, the same bytes for the same content."""
    package = Path(str(ClusterShell.__file__)).parent
    sources = {path.relative_to(package.parent): path for path in package.rglob("*.py") if path.parent.name != "CLI"}
    sources[Path("__main__.py")] = Path(__file__).with_name("gateway_program.py")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(str(name)), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
