"""One policy for host keys: pinned in a file of ours, first sight once per deployment, a changed key is an error.

A machine that the user's own known_hosts knows must show that key, unless it was deployed since (`forget`).
The file is an OpenSSH known_hosts, so that `ssh` and `nix copy` follow the same pins.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base import files
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.node.problems import HostKeyChanged
from g5kdeploy.node.settings import Hop

# In the order of preference of modern clients; a key of any other kind is not asked for.
KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_FORGOTTEN = "# first sight expected: "
_LOCK_WAIT = 10.0  # seconds


@dataclass(frozen=True)
class HostKey:
    """A public host key: its kind and its base64 body."""

    kind: str
    body: str

    @classmethod
    def parse(cls, text: str) -> HostKey:
        """From "ssh-ed25519 AAAA... comment"; raises `InvalidUse`."""
        words = text.split()
        try:
            if words[0] not in KINDS or not base64.b64decode(words[1], validate=True):
                raise ValueError(f"not one of {', '.join(KINDS)}")
        except (IndexError, ValueError, binascii.Error) as error:
            raise InvalidUse(f"`{text[:60]}` is no SSH host key", cause=str(error)) from error
        return cls(words[0], words[1])

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(base64.b64decode(self.body)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def __str__(self) -> str:
        return f"{self.kind} {self.body}"


class HostKeys:
    """The pins, kept in `path`; shared by threads, and by processes through a lock beside the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[tuple[int, ...], dict[str, list[HostKey]], set[str]] | None = None

    def pinned(self, name: str) -> tuple[HostKey, ...]:
        """The keys that our file has for a machine."""
        return tuple(self._current()[0].get(name, ()))

    def known(self, hop: Hop) -> tuple[tuple[HostKey, ...], Path | None]:
        """The keys that a machine may show, and the file that says so; none: first sight."""
        pins, forgotten = self._current()
        if hop.name in pins:
            return tuple(pins[hop.name]), self.path
        if hop.name in forgotten:
            return (), None
        for path in hop.known:
            if keys := _in_users_file(path, hop.known_as):
                return keys, path
        return (), None

    def check(self, hop: Hop, shown: HostKey) -> None:
        """Accept what a machine shows: the known key, or any at first sight, which pins it; else `HostKeyChanged`."""
        keys, source = self.known(hop)
        if shown in keys:
            return
        if keys:
            raise self.changed(hop, shown, keys, source)
        with self._changing() as (pins, forgotten):
            meanwhile = pins.get(hop.name, [])  # by another process, since we looked
            if meanwhile and shown not in meanwhile:
                raise self.changed(hop, shown, tuple(meanwhile), self.path)
            pins[hop.name] = [shown]
            forgotten.discard(hop.name)

    def changed(self, hop: Hop, shown: HostKey, keys: tuple[HostKey, ...], source: Path | None) -> HostKeyChanged:
        expected = " or ".join(key.fingerprint for key in keys)
        return HostKeyChanged(
            f"the host key of {hop.name} has changed",
            cause=f"it shows {shown.kind} {shown.fingerprint}, but {source} has {expected}",
            hint=f"if {hop.name} was installed anew, remove its line from {source}; "
            "if not, another machine answers in its place",
        )

    def pin(self, name: str, key: HostKey) -> None:
        with self._changing() as (pins, forgotten):
            pins[name] = [key]
            forgotten.discard(name)

    def forget(self, *names: str) -> None:
        with self._changing() as (pins, forgotten):
            for name in names:
                pins.pop(name, None)
            forgotten |= set(names)

    def _changing(self) -> _Change:
        return _Change(self)

    def _current(self) -> tuple[dict[str, list[HostKey]], set[str]]:
        """The file's content, to be looked at only; read again when the file is another one."""
        try:
            now = self.path.stat()
        except OSError:
            return self._read()
        mark = (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        seen = self._seen
        if seen is None or seen[0] != mark:
            seen = self._seen = (mark, *self._read())
        return seen[1], seen[2]

    def _read(self) -> tuple[dict[str, list[HostKey]], set[str]]:
        pins: dict[str, list[HostKey]] = {}
        forgotten: set[str] = set()
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return pins, forgotten
        for line in text.splitlines():
            if line.startswith(_FORGOTTEN):
                forgotten.add(line.removeprefix(_FORGOTTEN).strip())
                continue
            words = line.split()
            if len(words) >= 3 and words[1] in KINDS and not line.startswith(("#", "@", "|")):
                for name in words[0].split(","):
                    pins.setdefault(name, []).append(HostKey(words[1], words[2]))
        return pins, forgotten - pins.keys()  # `ssh` itself may have added a key at first sight

    def _write(self, pins: dict[str, list[HostKey]], forgotten: set[str]) -> None:
        lines = [f"{name} {key}\n" for name, keys in pins.items() for key in keys]
        lines += [f"{_FORGOTTEN}{name}\n" for name in sorted(forgotten)]
        files.write(self.path, "".join(lines), 0o600)
        self._seen = None


class _Change:
    """Read, change, write the pins, alone among threads and processes."""

    def __init__(self, keys: HostKeys) -> None:
        self._keys = keys
        self._file = files.lock(keys.path.with_name(f"{keys.path.name}.lock"), str(keys.path), _LOCK_WAIT)

    def __enter__(self) -> tuple[dict[str, list[HostKey]], set[str]]:
        self._keys._lock.acquire()
        try:
            self._file.__enter__()
            self._state = self._keys._read()
        except BaseException:
            self._keys._lock.release()
            raise
        return self._state

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._keys._write(*self._state)
        finally:
            self._file.__exit__(None, None, None)
            self._keys._lock.release()


def _in_users_file(path: Path, known_as: str) -> tuple[HostKey, ...]:
    """The keys of a machine in an OpenSSH known_hosts, hashed names included; a line that is none is passed over."""
    import paramiko

    try:
        found = paramiko.HostKeys(str(path)).lookup(known_as)
    except (OSError, paramiko.SSHException, UnicodeDecodeError):
        return ()
    if found is None:
        return ()
    return tuple(HostKey(kind, found[kind].get_base64()) for kind in KINDS if kind in found)
