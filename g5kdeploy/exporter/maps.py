"""Reading whole maps: by batches where the kernel has them for that type, otherwise entry by entry."""

from __future__ import annotations

import ctypes as ct
import errno
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from .libbpf import LibbpfError, Library, Map

HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH = 1, 2, 5, 6, 9, 10
PERF_EVENT_ARRAY, CGRP_STORAGE = 4, 32
KINDS = {
    HASH: "hash",
    ARRAY: "array",
    PERCPU_HASH: "percpu_hash",
    PERCPU_ARRAY: "percpu_array",
    LRU_HASH: "lru_hash",
    LRU_PERCPU_HASH: "lru_percpu_hash",
}
PERCPU = frozenset({PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH})
_NO_BATCH = frozenset({errno.EINVAL, errno.EOPNOTSUPP, 524})  # 524: ENOTSUPP, which the kernel lets through
_CHUNK = 4096  # entries a batch; a hash bucket that holds more is met by a larger chunk


@dataclass
class Reader:
    """Reads one map, whose values are u64. Not to be used by two threads at once: it keeps its buffers."""

    library: Library
    map: Map
    cpus: int = 1
    """Values for each key: 1, or the possible CPUs for a per-CPU map."""
    _batched: bool = field(default=True, init=False)
    _chunk: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.cpus = self.library.cpus if self.map.kind in PERCPU else 1
        self._resize(min(_CHUNK, max(self.map.max_entries, 16)))

    def _resize(self, chunk: int) -> None:
        self._chunk = chunk
        self._keys = ct.create_string_buffer(chunk * self.map.key_size)
        self._values = ct.create_string_buffer(chunk * 8 * self.cpus)

    def read(self) -> Iterator[tuple[bytes, int]]:
        """(key, value) of every entry; the values of all CPUs are added."""
        for keys, values in self._chunks():
            size, cpus = self.map.key_size, self.cpus
            if cpus == 1:
                for i, value in enumerate(values):
                    yield keys[i * size : (i + 1) * size], value
            else:
                for i in range(len(values) // cpus):
                    yield keys[i * size : (i + 1) * size], sum(values[i * cpus : (i + 1) * cpus])

    def read_by_cpu(self) -> Iterator[tuple[bytes, int]]:
        """(key with the CPU's number as two bytes behind it, value) of every entry and CPU."""
        size, cpus = self.map.key_size, self.cpus
        ends = [cpu.to_bytes(2, sys.byteorder) for cpu in range(cpus)]
        for keys, values in self._chunks():
            for i in range(len(values) // cpus):
                key = keys[i * size : (i + 1) * size]
                for cpu, end in enumerate(ends):
                    yield key + end, values[i * cpus + cpu]

    def _chunks(self) -> Iterator[tuple[bytes, array[int]]]:
        if self._batched:
            try:
                yield from self._batches()
            except _BatchUnsupported:
                self._batched = False
            else:
                return
        yield from self._one_by_one()

    def _batches(self) -> Iterator[tuple[bytes, array[int]]]:
        """`_BatchUnsupported` at the first call only, so nothing is ever read twice."""
        # The kernel's cursor: a u32 for a hash, a key for an array; never more than 8 bytes for what is read here.
        before, after = (
            ct.create_string_buffer(max(8, self.map.key_size)),
            ct.create_string_buffer(max(8, self.map.key_size)),
        )
        first = True
        while True:
            count = ct.c_uint32(self._chunk)
            result = self.library.call.bpf_map_lookup_batch(
                self.map.fd, None if first else before, after, self._keys, self._values, ct.byref(count), None
            )
            if -result == errno.ENOSPC:  # one bucket holds more than the buffers
                self._resize(self._chunk * 2)
                continue
            if first and -result in _NO_BATCH:
                raise _BatchUnsupported
            if result and -result != errno.ENOENT:
                raise LibbpfError(f"map {self.map.name} cannot be read", -result)
            yield self._taken(count.value)
            if result:
                return
            first = False
            before, after = after, before

    def _taken(self, count: int) -> tuple[bytes, array[int]]:
        values = array("Q")
        values.frombytes(memoryview(self._values)[: count * 8 * self.cpus])
        return bytes(memoryview(self._keys)[: count * self.map.key_size]), values

    def _one_by_one(self) -> Iterator[tuple[bytes, array[int]]]:
        call, fd = self.library.call, self.map.fd
        key, value = ct.create_string_buffer(self.map.key_size), ct.create_string_buffer(8 * self.cpus)
        previous = None
        # A hash that changes meanwhile may begin again from its start: an end for that, too.
        for _ in range(2 * self.map.max_entries + 1):
            result = call.bpf_map_get_next_key(fd, previous, key)
            if -result == errno.ENOENT:
                return
            if result:
                raise LibbpfError(f"map {self.map.name} cannot be read", -result)
            if call.bpf_map_lookup_elem(fd, key, value) == 0:
                values = array("Q")
                values.frombytes(value.raw)
                yield key.raw, values
            previous = ct.create_string_buffer(key.raw, len(key))


class _BatchUnsupported(Exception):
    """This kernel reads this type of map one entry at a time."""
