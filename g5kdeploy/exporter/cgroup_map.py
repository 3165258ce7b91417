"""A program's cgroup_id_map: the ids of the cgroups whose paths match, kept up to date as cgroups come and go."""

from __future__ import annotations

import ctypes as ct
import errno
import logging
import os
from collections import Counter as Count

from .config import CgroupIdMap
from .libbpf import Library, Map
from .maps import CGRP_STORAGE

log = logging.getLogger(__name__)


class CgroupIds:
    """Follows `Cgroups`, in the thread that learns of them; the kernel's map has 1 for each that matches."""

    def __init__(self, library: Library, map_: Map, wanted: CgroupIdMap) -> None:
        self.map = map_
        self.losses: Count[str] = Count()
        self.inside: set[int] = set()
        """Ids that are in the map now."""
        self._library = library
        self._regexps = wanted.regexps

    def changed(self, path: str, number: int, gone: bool) -> None:
        """A cgroup is there, or is no more."""
        if gone:
            self._remove(number)
        elif any(regexp.search(path) for regexp in self._regexps):
            self._add(path, number)

    def _add(self, path: str, number: int) -> None:
        value = ct.c_uint64(1)
        if self.map.kind == CGRP_STORAGE:
            try:
                folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                return  # gone already
            try:
                self._update(path, number, ct.c_int(folder), value)
            finally:
                os.close(folder)
        else:
            self._update(path, number, ct.c_uint64(number), value)

    def _update(self, path: str, number: int, key: ct.c_int | ct.c_uint64, value: ct.c_uint64) -> None:
        result = self._library.call.bpf_map_update_elem(self.map.fd, ct.byref(key), ct.byref(value), 0)
        if not result:
            self.inside.add(number)
            return
        full = -result in {errno.E2BIG, errno.ENOSPC}
        self.losses["full" if full else "refused"] += 1
        log.warning("%s is not in %s: %s", path, self.map.name, "the map is full" if full else os.strerror(-result))

    def _remove(self, number: int) -> None:
        if number not in self.inside:
            return
        self.inside.discard(number)
        if self.map.kind != CGRP_STORAGE:  # whose entries go with their cgroup
            key = ct.c_uint64(number)
            self._library.call.bpf_map_delete_elem(self.map.fd, ct.byref(key))
