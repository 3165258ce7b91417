"""Paths of cgroups by their ids, also of those that are gone by the time somebody asks.

The id of a cgroup of v2 is the inode number of its folder. A thread is told by inotify of each cgroup that is made, so
that one that lived between two scrapes has its name; a walk over the tree finds what was there before, and what the
thread missed.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import errno
import logging
import os
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_EVERY = 1000  # ms between two walks where inotify does not tell everything
_IN_CREATE, _IN_DELETE, _IN_IGNORED, _IN_Q_OVERFLOW, _IN_ISDIR, _IN_ONLYDIR = (
    0x100,
    0x200,
    0x8000,
    0x4000,
    0x40000000,
    0x01000000,
)
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


Follower = Callable[[str, int, bool], None]
"""(path, id, whether it is gone)"""


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
        self._following = threading.RLock()
        self._watched: dict[int, tuple[str, int]] = {}
        """Number of a watch → (folder, id)."""
        self._watches: dict[str, int] = {}
        """Folder → number of its watch."""
        self._followers: list[Follower] = []
        self._told: dict[int, str] = {}
        """Cgroups that the followers know of."""
        self._blind = False
        """inotify does not tell everything: only walks do."""
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
        self._inotify = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._inotify < 0:
            self._go_blind()
        self._walk(str(self.root))
        self._thread = threading.Thread(target=self._listen, args=(prepare,), name="cgroups", daemon=True)
        self._thread.start()

    def follow(self, follower: Follower) -> Callable[[], None]:
        """Tell a follower of every cgroup that is there, and from now on of each that comes or goes; what ends that.

        It is called by one thread at a time, and not after that has ended.
        """
        with self._following:
            self._followers.append(follower)
            if len(self._followers) == 1:
                self._told.clear()
                self._walk(str(self.root))
            else:
                for number, path in self._told.items():
                    follower(path, number, False)

        def end() -> None:
            with self._following:
                if follower in self._followers:
                    self._followers.remove(follower)

        return end

    def _tell(self, path: str, number: int, gone: bool) -> None:
        with self._following:
            if not self._followers or (number in self._told) != gone:
                return
            if gone:
                del self._told[number]
            else:
                self._told[number] = path
            for follower in self._followers:
                follower(path, number, gone)

    def _go_blind(self) -> None:
        if not self._blind:
            self._blind = True
            log.warning("cgroups that live shorter than a second may have no name: inotify: %s", _reason())

    def _learn(self, path: str) -> int | None:
        """The id of a cgroup, known from now on; None if it is gone."""
        try:
            number = os.stat(path).st_ino  # noqa: PTH116 - once for each cgroup of the machine
        except OSError:
            return None
        with self._lock:
            if number not in self._paths:
                self._order.append(number)
                if len(self._order) > _MOST_GONE:
                    self._paths.pop(self._order.popleft(), None)
            self._paths[number] = path
        self._tell(path, number, False)
        return number

    def _walk(self, top: str) -> None:
        """Learn a folder and all below it. Each is watched before it is listed: nothing made meanwhile is missed."""
        todo = [top]
        while todo:
            folder = todo.pop()
            known = self._learn(folder)
            if known is None:
                continue
            self._add_watch(folder, known)
            try:
                with os.scandir(folder) as entries:
                    todo.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
            except OSError:
                continue

    def _add_watch(self, folder: str, known: int) -> None:
        if self._inotify < 0:
            return
        mask = _IN_CREATE | _IN_DELETE | _IN_ONLYDIR
        number = self._libc.inotify_add_watch(self._inotify, os.fsencode(folder), mask)
        if number >= 0:
            with self._lock:
                self._watched[number] = (folder, known)
                self._watches[folder] = number
        elif ct.get_errno() == errno.ENOENT:
            self._tell(folder, known, True)
        else:
            self._go_blind()

    def _listen(self, prepare: Callable[[], object]) -> None:
        prepare()
        poll = select.poll()
        if self._inotify >= 0:
            poll.register(self._inotify, select.POLLIN)
        looked = time.monotonic()
        while True:
            if poll.poll(_EVERY):
                with contextlib.suppress(BlockingIOError):
                    self._events(os.read(self._inotify, 65536))
            if self._blind and time.monotonic() - looked >= _EVERY / 1000:
                self._look_again()
                looked = time.monotonic()

    def _look_again(self) -> None:
        """What a walk finds, and what it finds no more: for those who follow."""
        if self._followers:
            self._walk(str(self.root))
            for number, path in list(self._told.items()):
                if not os.path.isdir(path):  # noqa: PTH112 - every second, for each cgroup
                    self._tell(path, number, True)

    def _events(self, events: bytes) -> None:
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
        if mask & _IN_IGNORED:
            self._gone(number)
            return
        with self._lock:
            folder, _ = self._watched.get(number, ("", 0))
            path = f"{folder}/{os.fsdecode(name)}"
            below = self._watches.get(path, -1)
        if folder and mask & _IN_ISDIR and mask & _IN_CREATE:
            self._walk(path)
        elif folder and mask & _IN_DELETE and self._gone(below):
            self._libc.inotify_rm_watch(self._inotify, below)  # a cgroup's own watch does not end with it

    def _gone(self, number: int) -> bool:
        """A cgroup, by its watch, is no more: its name stays known. Whether it was known until now."""
        with self._lock:
            folder, known = self._watched.pop(number, ("", 0))
            if self._watches.get(folder) == number:
                del self._watches[folder]
        if folder:
            self._tell(folder, known, True)
        return bool(folder)


def _reason() -> str:
    return os.strerror(ct.get_errno())
