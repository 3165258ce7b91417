"""Programs whose target is in a kernel module that is not loaded yet: tried again when modules have come.

Looking costs one listing of /sys/module; a program is tried only when a name stands there that was not there before, and
so many times at most.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from .loader import Loaded, Loader

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0  # seconds
_MOST_ATTEMPTS = 100


def loaded_modules(folder: Path = Path("/sys/module")) -> frozenset[str]:
    """Names of modules, those among them that are built in and have parameters; empty where the kernel tells none."""
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted, every two seconds
    except OSError:
        return frozenset()


class Retry:
    """Tries waiting programs again. To be used by the thread that loaded them, which has the capabilities for it."""

    def __init__(
        self, loader: Loader, loaded: list[Loaded], modules: Callable[[], frozenset[str]] = loaded_modules
    ) -> None:
        self._loader = loader
        self._loaded = loaded
        self._modules = modules
        self._seen = modules()

    @property
    def waiting(self) -> list[Loaded]:
        """Programs that are tried again."""
        return [one for one in self._loaded if one.waiting]

    def look(self) -> list[Loaded]:
        """Try what waits if there are new modules; those of which more is loaded or attached than before."""
        if not self.waiting:
            return []
        there = self._modules()
        new, self._seen = there - self._seen, there
        if not new:
            return []
        came = []
        for one in self.waiting:
            one.attempts += 1
            before = len(one.attached)
            if self._loader.again(one) and len(one.attached) > before:
                log.info(
                    "%s: %d of %d programs attached, after a module came",
                    one.name,
                    len(one.attached),
                    len(one.programs),
                )
                came.append(one)
            if one.waiting and one.attempts >= _MOST_ATTEMPTS:
                log.warning(
                    "%s: given up after %d attempts: %s", one.name, one.attempts, "; ".join(one.reasons.values())
                )
                one.waiting = set()
        return came

    def give_up(self, why: str) -> None:
        """Nothing is tried again from now on."""
        for one in self.waiting:
            log.warning("%s is not tried again when a module comes: %s", one.name, why)
            one.waiting = set()
