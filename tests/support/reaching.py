"""A site in small, out of real OpenSSH servers: a gateway, nodes behind it, and a home that knows the way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node import Reach
from tests.support.sshd import SshServer, make_key, write_ssh_config

LONG = 180.0  # seconds: far more than anything here takes, on a machine that is busy with other things


def soon(seconds: float = LONG) -> Deadline:
    return Deadline.after(seconds, "the test")


def until(seen: Callable[[], bool], what: str) -> None:
    deadline = soon()
    while not seen():
        assert not deadline.passed(), what
        time.sleep(0.02)


def block(name: str, server: SshServer, *more: str) -> str:
    return "\n ".join([f"Host {name}", "HostName 127.0.0.1", f"Port {server.port}", f"User {server.user}", *more])


class Site:
    """A gateway, two nodes behind it, one of them also to be had directly, and a home that knows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.key = make_key(self.home / ".ssh" / "id_ed25519")
        self.public = self.key.with_suffix(".pub").read_text()
        self.gateway = SshServer(folder / "gateway", self.public)
        self.nodes = [SshServer(folder / name, self.public) for name in ("n1", "n2")]
        write_ssh_config(
            self.home,
            block("gate", self.gateway),
            block("direct", self.nodes[0]),
            *(block(f"n{i}", node, "ProxyJump gate") for i, node in enumerate(self.nodes, 1)),
        )
        self.user = self.gateway.user

    def close(self) -> None:
        for server in (self.gateway, *self.nodes):
            server.close()


def server(site: Site, tmp_path: Path, *options: str) -> SshServer:
    """One more machine that the site's user may enter."""
    return SshServer(tmp_path / "own", site.public, *options)


@contextlib.contextmanager
def own_home(tmp_path: Path, *blocks: str) -> Iterator[Reach]:
    """Connections with the settings of a home made of whole `Host` blocks."""
    write_ssh_config(tmp_path / "h", *blocks)
    with Reach(tmp_path / "h", known_hosts=tmp_path / "known") as reach:
        yield reach
