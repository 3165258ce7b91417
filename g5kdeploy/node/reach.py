"""The way to every machine of a testbed: SSH settings of a home, shared connections, one host-key policy."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from g5kdeploy.node.hostkeys import HostKey, HostKeys
from g5kdeploy.node.link import PROXIES, Link
from g5kdeploy.node.login import KeyRing
from g5kdeploy.node.openssh import write_config
from g5kdeploy.node.remote import Remote
from g5kdeploy.node.settings import Hop, Settings

Seen = tuple[Hop, tuple[HostKey, ...]]


class Reach:
    """Connections made with the SSH settings and keys of `home` (its `.ssh/config`), shared by all who ask.

    `user` is the login on gateways and frontends that the SSH configuration says nothing of (default: the local one).
    `known_hosts` is a file of ours with the pinned host keys (default: beside the SSH configuration). Use it as a
    context manager, or call `close`.
    """

    def __init__(self, home: Path, user: str | None = None, known_hosts: Path | None = None) -> None:
        self.home = home
        self.user = user
        self.known_hosts = known_hosts or home / ".ssh" / "known_hosts.g5kdeploy"
        self._settings = Settings(home, user)
        self._keys = HostKeys(self.known_hosts)
        self._ring = KeyRing()
        self._proxies = threading.BoundedSemaphore(PROXIES)
        self._lock = threading.Lock()
        self._moved: dict[str, str] = {}
        self._links: dict[tuple[tuple[str, str, int], ...], Link] = {}

    def remote(self, name: str, user: str | None = "root") -> Remote:
        """A machine by name; `user` None: what the SSH configuration says, else the user of this Reach."""
        route = self._settings.route(self.name_of(name), user)
        return Remote(name, route[-1].user, self._link(route))

    def move(self, name: str, to: str) -> None:
        """From now on the machine answers under the name `to`, as a node in a VLAN does; it keeps its own name here."""
        self._moved[name] = to

    def name_of(self, name: str) -> str:
        """The name under which a machine answers: its own, unless it was moved."""
        return self._moved.get(name, name)

    def forget(self, *names: str) -> None:
        """The machines get a new system: drop pinned keys and connections, and trust the next keys at first sight."""
        self._keys.forget(*map(self.name_of, names))
        self._drop(*names)

    def pin(self, name: str, key: str) -> None:
        """From now on the machine must show this key ("ssh-ed25519 AAAA..."); drops its connection."""
        self._keys.pin(self.name_of(name), HostKey.parse(key))
        self._drop(name)

    def seen(self, name: str, user: str | None = "root") -> Seen:
        """Where a machine is and how it is entered, and the host keys that it may show (none: any, at first sight)."""
        hop = self._settings.route(self.name_of(name), user)[-1]
        return hop, self._keys.known(hop)[0]

    def ssh_command(self, name: str, user: str | None = "root", *, batch: bool = False) -> list[str]:
        """The words of an OpenSSH call with the same settings and host-key policy, up to and including the host.

        With `batch` it never asks anything.
        """
        asking = ["-o", "BatchMode=yes"] if batch else []
        return ["ssh", *self.ssh_options([name], user), *asking, self.name_of(name)]

    def ssh_options(self, names: Iterable[str], user: str | None = "root") -> list[str]:
        """The options of that call (without `ssh` and the host) for several hosts, as NIX_SSHOPTS wants them."""
        routes = [self._settings.route(name, user) for name in sorted(set(map(self.name_of, names)))]
        return ["-F", str(write_config(self.known_hosts, self._settings.path, routes, self._keys))]

    def close(self) -> None:
        """Close every connection; commands still running raise `ConnectionLost`."""
        with self._lock:
            links = list(self._links.values())
            self._links.clear()
        for link in reversed(links):  # nodes before the gateways that they hang on
            link.close()

    def __enter__(self) -> Reach:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _link(self, route: tuple[Hop, ...]) -> Link:
        with self._lock:
            link: Link | None = None
            for end in range(1, len(route) + 1):
                key = tuple((hop.name, hop.user, hop.port) for hop in route[:end])
                if key not in self._links:
                    self._links[key] = Link(route[end - 1], link, self._keys, self._ring, self._proxies)
                link = self._links[key]
        assert link is not None
        return link

    def _drop(self, *names: str) -> None:
        gone = set(map(self.name_of, names))
        with self._lock:
            links = [link for link in self._links.values() if link.hop.name in gone]
        for link in links:
            link.drop()
