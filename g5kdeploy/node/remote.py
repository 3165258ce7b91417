"""One machine that answers SSH: run a command, bring files there and back, wait for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node.problems import Result


class Remote:
    """A machine by its name, reached as `user`. Made by `Reach.remote`; connects when first used.

    Every method raises `Unreachable`, `LoginRefused`, `HostKeyChanged`, `ConnectionLost` or `DeadlinePassed`.
    """

    name: str
    user: str

    def run(
        self,
        command: str,
        deadline: Deadline,
        *,
        input: str | bytes | Path | None = None,
        check: bool = True,
        out: Callable[[str], None] | None = None,
        secrets: Iterable[str] = (),
        hint: str = "",
    ) -> Result:
        """Run a shell command to its end. `input` is fed to its stdin (a Path: that file's content).

        `out` is given each line of stdout and stderr as it comes, cleaned. Raises `RemoteFailed` with `check`.
        A connection that turns out to be dead before the command started is opened anew, once.
        """
        raise ConnectionError

    def put(self, source: bytes | Path, path: str, deadline: Deadline, mode: int = 0o644) -> None:
        """Write a file there, aside and renamed; folders on the way are made."""
        raise ConnectionError

    def get(self, path: str, to: Path, deadline: Deadline, limit: int | None = None) -> int:
        """Bring a file here, aside and renamed; its size in bytes. More than `limit`: `RemoteFailed`."""
        raise ConnectionError

    def wait_ready(self, deadline: Deadline) -> None:
        """Return when SSH answers and a command runs."""
        raise ConnectionError

    def boot_id(self, deadline: Deadline) -> str:
        """The kernel's boot id: changes with every boot, kexec included."""
        raise ConnectionError

    @contextlib.contextmanager
    def forward(self, port: int, host: str = "127.0.0.1") -> Iterator[int]:
        """A local TCP port that leads to `host`:`port` as seen from the machine, while the block runs."""
        raise ConnectionError

    def disconnect(self) -> None:
        """Drop this machine's connection, for instance because it is about to reboot; the next use connects anew."""
