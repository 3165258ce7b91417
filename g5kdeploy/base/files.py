"""Files that are whole or absent, and locks that say who holds them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from g5kdeploy.base.problem import Problem


class Held(Problem):
    """A lock is held by another process."""


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write aside, flush to the disk, rename: a reader sees the old file or the new one, never a half.

    An OSError names `path`, also where the system named the file aside, or none.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    name = ""
    try:
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(data)
            file.flush()
            os.fsync(fd)
        Path(name).replace(path)
    except BaseException as error:
        if name:
            Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write(path, json.dumps(value, indent=2, sort_keys=False, ensure_ascii=False) + "\n", mode)


def read_json(path: Path) -> Any:
    """The value in a JSON file; a `Problem` naming the file when it is none."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise Problem(f"{path} cannot be read", cause=error.strerror or str(error)) from error
    except ValueError as error:
        raise Problem(f"{path} is not valid JSON", cause=str(error)) from error


@contextlib.contextmanager
def short(folder: Path) -> Iterator[Path]:
    """A folder under a short name, for the paths of unix sockets, which hold 107 bytes; good in this process only."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


@contextlib.contextmanager
def lock(path: Path, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock on `path`; released by the kernel however the process ends.

    Raises `Held`, naming the holder, when it is not free within `wait` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + wait
    with path.open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise Problem(
                        f"{what} cannot be locked",
                        cause=f"the filesystem of {path.parent} gives no locks: {error.strerror}",
                        hint="a home on NFS needs its lock service; G5KDEPLOY_HOME and --runs put state and runs elsewhere",
                    ) from error
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.monotonic() >= until:
                    file.seek(0)
                    raise Held(f"{what} is in use", cause=file.read().strip() or "by another process") from error
                time.sleep(0.1)
        holder = f"by process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        with contextlib.suppress(OSError):  # on a full disk it holds all the same, without a name
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), holder.encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), 0)
