"""Paths of cgroups by their ids, also of those that are gone by the time somebody asks.

The id of a cgroup of v2 is the inode number of its folder. A thread is told by inotify of each cgroup that is made, so
that one that lived between two scrapes has its name; a walk over the tree finds what was there before, and what the
thread missed.
"""

from __future__ import annotations

import ctypes as ct
import logging
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_IN_CREATE, _IN_IGNORED, _IN_Q_OVERFLOW, _IN_ISDIR, _IN_ONLYDIR = 0x100, 0x8000, 0x4000, 0x40000000, 0x01000000
_EVENT = struct.Struct("iIII")
_WALK_AGAIN = 1.0  # seconds between two walks for ids that nobody knows
_MOST_GONE = 65536  # names kept of cgroups that are gone


def root(mountinfo: Path = Path("/proc/self/mountinfo")) -> Path | None:
    """Where cgroup v2 is mounted; None if it is nowhere."""
    try:
        lines = mountinfo.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4].encode().decode("unicode_escape"))
    return None


class Cgroups:
    """The mapping, filled on demand, and by `watch` as cgroups are made.

    `path` may be called by one thread at a time.
    """

    def __init__(self, where: Path | None = None) -> None:
        self.root = where or root()
        self._paths: dict[int, str] = {}
        self._order: deque[int] = deque()
        self._walked = float("-inf")
        self._lock = threading.Lock()
        self._watched: dict[int, str] = {}
        self._inotify = -1
        self._thread: threading.Thread | None = None
        self._libc = ct.CDLL(None, use_errno=True)

    def path(self, number: int) -> str | None:
        """The folder of the cgroup with this id; None if it is not known (yet)."""
        with self._lock:
            if number in self._paths:
                return self._paths[number]
        now = time.monotonic()
        if self.root is None or now - self._walked < _WALK_AGAIN:
            return None
        self._walked = now
        self._walk(str(self.root))
        with self._lock:
            return self._paths.get(number)

    def watch(self, prepare: Callable[[], object] = lambda: None) -> None:
        """Begin to listen for new cgroups, in a thread that calls `prepare` first; where that cannot be, walks alone must
        do, and a log line says so.
        """
        if self.root is None or self._thread is not None:
            return
        self._inotify = self._libc.inotify_init1(os.O_CLOEXEC)
        if self._inotify < 0:
            log.warning("cgroups that live shorter than a scrape interval will have no name: inotify: %s", _reason())
            return
        self._walk(str(self.root))
        self._thread = threading.Thread(target=self._listen, args=(prepare,), name="cgroups", daemon=True)
        self._thread.start()

    def _learn(self, path: str) -> bool:
        try:
            number = os.stat(path).st_ino  # noqa: PTH116 - once for each cgroup of the machine
        except OSError:
            return False
        with self._lock:
            if number not in self._paths:
                self._order.append(number)
                if len(self._order) > _MOST_GONE:
                    self._paths.pop(self._order.popleft(), None)
            self._paths[number] = path
        return True

    def _walk(self, top: str) -> None:
        """Learn a folder and all below it. Each is watched before it is listed: nothing made meanwhile is missed."""
        todo = [top]
        while todo:
            folder = todo.pop()
            if not self._learn(folder):
                continue
            self._add_watch(folder)
            try:
                with os.scandir(folder) as entries:
                    todo.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
            except OSError:
                continue

    def _add_watch(self, folder: str) -> None:
        if self._inotify < 0:
            return
        number = self._libc.inotify_add_watch(self._inotify, os.fsencode(folder), _IN_CREATE | _IN_ONLYDIR)
        if number >= 0:
            with self._lock:
                self._watched[number] = folder

    def _listen(self, prepare: Callable[[], object]) -> None:
        prepare()
        while True:
            try:
                events = os.read(self._inotify, 65536)
            except OSError:
                return
            at = 0
            while at < len(events):
                number, mask, _, length = _EVENT.unpack_from(events, at)
                name = events[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                at += _EVENT.size + length
                self._event(number, mask, name)

    def _event(self, number: int, mask: int, name: bytes) -> None:
        if mask & _IN_Q_OVERFLOW:
            self._walk(str(self.root))
            return
        with self._lock:
            folder = self._watched.pop(number, None) if mask & _IN_IGNORED else self._watched.get(number)
        if folder is not None and mask & _IN_CREATE and mask & _IN_ISDIR:
            self._walk(f"{folder}/{os.fsdecode(name)}")


def _reason() -> str:
    return os.strerror(ct.get_errno())
