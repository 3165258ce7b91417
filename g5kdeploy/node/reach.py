"""The way to every machine of a testbed: SSH settings of a home, shared connections, one host-key policy."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from g5kdeploy.node.remote import Remote


class Reach:
    """Connections made with the SSH settings and keys of `home` (its `.ssh/config`), shared by all who ask.

    `user` is the login on gateways and frontends that the SSH configuration says nothing of (default: the local one).
    `known_hosts` is a file of ours with the pinned host keys. Use it as a context manager, or call `close`.
    """

    def __init__(self, home: Path, user: str | None = None, known_hosts: Path | None = None) -> None:
        self.home = home
        self.user = user
        self.known_hosts = known_hosts

    def remote(self, name: str, user: str | None = "root") -> Remote:
        """A machine by name; `user` None: what the SSH configuration says, else the user of this Reach."""
        raise ConnectionError

    def forget(self, name: str) -> None:
        """The machine gets a new system: drop pinned key and connection, and trust the next key at first sight."""

    def pin(self, name: str, key: str) -> None:
        """From now on the machine must show this key ("ssh-ed25519 AAAA..."); drops its connection."""

    def ssh_command(self, name: str, user: str | None = "root", *, batch: bool = False) -> list[str]:
        """The words of an OpenSSH call with the same settings and host-key policy, up to and including the host."""
        return []

    def ssh_options(self, names: list[str], user: str | None = "root") -> list[str]:
        """The options of that call (without `ssh` and the host) for several hosts, as NIX_SSHOPTS wants them."""
        return []

    def close(self) -> None:
        """Close every connection; commands still running raise `ConnectionLost`."""

    def __enter__(self) -> Reach:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
