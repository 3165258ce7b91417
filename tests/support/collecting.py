"""A machine whose workloads, scrapers and files are looked at, with a stand-in for its systemd."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node import Reach
from tests.support import systemd_shim
from tests.support.sshd import DEFAULT_PATH, SshServer, make_key, write_ssh_config

LONG = 180.0


def soon(seconds: float = LONG) -> Deadline:
    return Deadline.after(seconds, "the test")


def until(seen: Callable[[], bool], what: str) -> None:
    deadline = soon()
    while not seen():
        assert not deadline.passed(), what
        time.sleep(0.02)


class Machine:
    """A node: an SSH server whose commands find our stand-in for systemd first."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        key = make_key(self.home / ".ssh" / "id_ed25519")
        self.bin = systemd_shim.install(folder / "bin", folder / "state")
        self.units = folder / "state"
        path = f"{self.bin}:{DEFAULT_PATH}"
        self.server = SshServer(folder / "node", key.with_suffix(".pub").read_text(), path=path)
        lines = ("Host n1", "HostName 127.0.0.1", f"Port {self.server.port}", f"User {self.server.user}")
        write_ssh_config(self.home, "\n ".join(lines))

    def reach(self, known: Path) -> Reach:
        return Reach(self.home, known_hosts=known)


def named(request: pytest.FixtureRequest) -> str:
    """A unit's name of this test's own."""
    return f"{request.node.name[:60]}-{os.getpid()}".replace("[", "-").replace("]", "")
