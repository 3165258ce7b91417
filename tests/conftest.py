"""Guards around every test: no home, no network, no real site."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, and none judged by its time: this machine may be busy with other things.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
settings.load_profile("steady")


def pytest_configure() -> None:
    """Programs that the tests interrupt are to heed it, in a run started with `&` or nohup, too.

    What a shell has ignored there stays ignored in programs; what is handled, whatever the handler, does not.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a unix socket, netlink, vsock
    host = str(address[0])
    return host in ("", "localhost", "::1", "0.0.0.0") or host.startswith(("127.", "10.", "192.168.", "fe80:", "fd"))


@pytest.fixture(autouse=True)
def _guards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own for each test, and no connection that leaves this machine."""
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("G5KDEPLOY_", "XDG_", "LAB_")) or name in ("SSH_AUTH_SOCK", "NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("G5KDEPLOY_HOME", str(home / "g5kdeploy"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if not _is_local(address):
            pytest.fail(f"this test tried to leave the machine: connect to {address}")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
