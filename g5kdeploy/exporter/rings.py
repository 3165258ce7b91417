"""Counters whose events come through a perf_event_array: a ring for each CPU, emptied by a thread as they come.

Counted are the events' bytes as they are; they are decoded when somebody asks, like the keys of a map.
"""

from __future__ import annotations

import ctypes as ct
import logging
import os
import select
import threading
import time
from collections import Counter as Count
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from .config import Counter
from .libbpf import LibbpfError, Library, Map

log = logging.getLogger(__name__)

_PAGES = 64  # of each CPU's ring: a power of two
_AGAIN = 1.0  # seconds after which rings are looked into though they say nothing
_MOST_ROWS = 65536  # different events that are counted; further ones are lost, and counted as that
_SAMPLE = ct.CFUNCTYPE(None, ct.c_void_p, ct.c_int, ct.c_void_p, ct.c_uint32)
_LOST = ct.CFUNCTYPE(None, ct.c_void_p, ct.c_int, ct.c_uint64)


class Rings:
    """Counts a metric's events. Read like a map, by whoever scrapes."""

    def __init__(
        self,
        library: Library,
        map_: Map,
        metric: Counter,
        prepare: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the rings and starts the thread, which calls `prepare` first. `LibbpfError` if that is not allowed."""
        self.map = replace(map_, max_entries=_MOST_ROWS)
        self.losses: Count[str] = Count()
        self._size = sum(label.size + label.padding for label in metric.labels)
        self._interval = metric.flush_interval
        self._clock = clock
        self._flush_at = clock() + self._interval
        self._counts: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self._library: Any = library.call
        self._callbacks = _SAMPLE(self._sample), _LOST(self._lost)  # kept alive: libbpf has the bare pointers
        library.words()
        pointers = (ct.cast(callback, ct.c_void_p) for callback in self._callbacks)
        self._buffer: int | None = library.call.perf_buffer__new(map_.fd, _PAGES, *pointers, None, None)
        if not self._buffer:
            raise LibbpfError(f"the rings of {map_.name} cannot be opened", ct.get_errno(), library.words())
        self._end = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._empty, args=(prepare,), name=f"ring {map_.name}", daemon=True)
        self._thread.start()

    def _empty(self, prepare: Callable[[], object]) -> None:
        prepare()
        with select.epoll() as poll:
            poll.register(self._library.perf_buffer__epoll_fd(self._buffer), select.EPOLLIN)
            poll.register(self._end, select.EPOLLIN)
            while True:
                # A ring says only once that there is something, and may have said so before anybody listened.
                self._library.perf_buffer__consume(self._buffer)
                if self._end in [number for number, _ in poll.poll(_AGAIN)]:
                    return

    def _sample(self, _context: int, _cpu: int, data: int, size: int) -> None:
        event = ct.string_at(data, min(size, self._size))
        with self._lock:
            self._flush()
            if len(event) < self._size:
                self.losses["too_short"] += 1
            elif event in self._counts:
                self._counts[event] += 1
            elif len(self._counts) < _MOST_ROWS:
                self._counts[event] = 1
            else:
                self.losses["too_many"] += 1

    def _lost(self, _context: int, _cpu: int, count: int) -> None:
        with self._lock:
            self.losses["ring_full"] += count

    def _flush(self) -> None:
        """Begin to count anew when it is time; with the lock held."""
        now = self._clock()
        if now >= self._flush_at:
            self._counts.clear()
            self._flush_at = now + self._interval

    def read(self) -> Iterator[tuple[bytes, int]]:
        """(bytes of an event, how often it came since the last flush)."""
        with self._lock:
            self._flush()
            counted = list(self._counts.items())
        yield from counted

    def close(self) -> None:
        """End the thread, free the rings. Twice does no harm."""
        if self._buffer:
            os.eventfd_write(self._end, 1)
            self._thread.join()
            os.close(self._end)
            self._library.perf_buffer__free(self._buffer)
            self._buffer = None
