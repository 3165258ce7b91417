"""The namespaces that a site lives in: network, mounts, processes, host name; for a user, a user namespace too."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import g5kdeploy
from g5kdeploy.base import process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem


class NoNamespace(Problem):
    """This machine does not let the lab make its network."""


@dataclass(frozen=True)
class Stage:
    """What is in the namespaces from the beginning.

    `addresses` with prefix lengths of the production network; `taps` one name for each node; `binds` target → folder
    and `files` target → file, as a login shell shall see them.
    """

    hostname: str
    addresses: tuple[str, ...]
    taps: tuple[str, ...]
    binds: Mapping[str, Path]
    files: Mapping[str, Path]


def python_environment() -> dict[str, str]:
    """What a Python child needs to find this very package."""
    own = str(Path(g5kdeploy.__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{own}{os.pathsep}{known}" if known else own, "PYTHONDONTWRITEBYTECODE": "1"}


def missing(root: bool) -> str:
    """Why namespaces cannot be made here, in words for the user; empty when nothing is known to be missing."""
    for program, package in (("unshare", "util-linux"), ("nsenter", "util-linux"), ("ip", "iproute2")):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian's package {package})"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be opened, and the nodes' network cards need it"
    if root:
        return ""
    if shutil.which("newuidmap") is None:
        return "newuidmap is not installed (Debian's package uidmap)"
    return ""


class Namespace:
    """Holds the namespaces with one process in them, and runs programs inside.

    Those of a further site are made inside the `outer` ones, whose user may then lay lines between both.
    """

    def __init__(self, outer: Namespace | None = None) -> None:
        self.root = os.geteuid() == 0
        self._outer = outer
        self._holder: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._lock = threading.Lock()
        self._spawned: list[subprocess.Popen[bytes]] = []

    def start(self, stage: Stage, deadline: Deadline) -> None:
        """Make the namespaces and set the stage; raises `NoNamespace` where the machine refuses."""
        lacking = missing(self.root)
        if lacking:
            raise NoNamespace("the lab's network cannot be made", cause=lacking, hint=_hint(self.root))
        words = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        if self._outer:
            words = [*self._outer.enter(), *words]
        elif not self.root:
            words += ["--user", "--map-root-user", "--map-auto"]
        config: dict[str, Any] = {
            "hostname": stage.hostname,
            "addresses": stage.addresses,
            "taps": stage.taps,
            "binds": {target: str(folder) for target, folder in stage.binds.items()},
            "files": {target: str(file) for target, file in stage.files.items()},
        }
        self._holder = subprocess.Popen(
            [*words, sys.executable, "-m", "g5kdeploy.lab.site.inside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **python_environment()},
            start_new_session=True,
        )
        assert self._holder.stdin is not None and self._holder.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self._holder.stdin.write(json.dumps(config).encode() + b"\n")
                self._holder.stdin.flush()
            self._pid = self._wait_ready(self._holder.stdout, deadline)
        except BaseException:
            self.stop()
            raise

    def _wait_ready(self, stdout: IO[bytes], deadline: Deadline) -> int:
        if not select.select([stdout], [], [], deadline.remaining())[0]:
            raise deadline.error("the site's network was not set up")
        word, _, rest = stdout.readline().decode().strip().partition(" ")
        if word == "ready":
            return int(rest)
        assert self._holder is not None and self._holder.stderr is not None
        process.stop(self._holder)
        said = rest or self._holder.stderr.read().decode(errors="replace").strip()
        raise NoNamespace("the lab's network cannot be made", cause=said, hint=_hint(self.root))

    def lay_line(self, there: str, here: str, deadline: Deadline) -> None:
        """A line between the outer namespaces and these; the names of its ends."""
        assert self._outer is not None
        words = ["ip", "link", "add", there, "type", "veth", "peer", "name", here, "netns"]
        self._outer.run([*words, f"/proc/{self._pid}/ns/net"], deadline)

    def alive(self) -> bool:
        return self._holder is not None and self._holder.poll() is None

    def enter(self, *, mounts: bool = False) -> tuple[str, ...]:
        """The words before a command that runs it inside; `mounts`: with the site's own files, as a login shell."""
        words = ["nsenter", "--target", str(self._pid), "--net", "--pid", "--uts"]
        if not self.root:
            words += ["--user", "--preserve-credentials"]
        if mounts:
            words += ["--mount", "--wd=/"]
        return (*words, "--")

    def run(
        self, argv: list[str], deadline: Deadline, *, input: str | bytes | None = None, check: bool = True
    ) -> process.Done:
        """Run a program inside to its end."""
        return process.run([*self.enter(), *argv], deadline, input=input, check=check)

    def spawn(
        self, argv: list[str], log: Path, *, mounts: bool = False, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program inside that stays; it ends with the namespaces at the latest, whoever still knows of it."""
        with log.open("ab") as out:
            child = subprocess.Popen(
                [*self.enter(mounts=mounts), *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **python_environment()} if env is None else env,
                start_new_session=True,
            )
        with self._lock:
            self._spawned = [*(one for one in self._spawned if one.poll() is None), child]
        return child

    def stop(self) -> None:
        """End everything inside."""
        if self._holder is None:
            return
        for pipe in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._holder.wait(process.GRACE)
        process.stop(self._holder)
        self._holder = None
        with self._lock:
            for child in self._spawned:
                if child.poll() is None:
                    process.stop(child)
            self._spawned.clear()


def _hint(root: bool) -> str:
    if root:
        return "the kernel needs network namespaces, bridges and tun; in a container it must be a privileged one"
    return "run it as root, or allow user namespaces and give your account ranges in /etc/subuid and /etc/subgid"
