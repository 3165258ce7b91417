"""Programs whose target is not there yet, in a kernel module or as an XDP program: tried again when one has come.

Looking costs one listing of /sys/module; a program is tried only when a name stands there that was not there before, and
so many times at most without success.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .loader import Loaded, Loader
from .xdp import XdpError, device_of
from .xdp_watch import program_on, watches

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
        self._failed: Counter[str] = Counter()  # attempts in a row

    @property
    def waiting(self) -> list[Loaded]:
        """Programs that are tried again."""
        return [one for one in self._loaded if one.waiting]

    @property
    def needed(self) -> bool:
        """Whether something may have to be loaded still: it waits, or what it watches may be replaced."""
        return any(one.waiting or one.watched for one in self._loaded)

    def look(self) -> list[Loaded]:
        """Try what waits if there is something new; those of which more is loaded or attached than before."""
        for one in self._loaded:
            if one.watched:
                self._loader.let_go(one)
        if not self.waiting:
            return []
        there = self._modules() | self._xdp_programs()
        new, self._seen = there - self._seen, there
        if not new:
            return []
        came = []
        for one in self.waiting:
            one.attempts += 1
            before = len(one.attached)
            if self._loader.again(one) and len(one.attached) > before:
                log.info(
                    "%s: %d of %d programs attached, after waiting",
                    one.name,
                    len(one.attached),
                    len(one.programs),
                )
                came.append(one)
                del self._failed[one.name]
            else:
                self._failed[one.name] += 1
            if one.waiting and self._failed[one.name] >= _MOST_ATTEMPTS:
                log.warning(
                    "%s: given up after %d attempts: %s", one.name, one.attempts, "; ".join(one.reasons.values())
                )
                one.waiting = set()
        return came

    def _xdp_programs(self) -> frozenset[str]:
        """XDP programs that are there for those that wait to watch one."""
        found = set()
        for one in self.waiting:
            for program in one.programs:
                if watches(program) and program.name in one.waiting:
                    with contextlib.suppress(XdpError):
                        device = device_of(program, one.plan.settings.xdp)
                        if number := program_on(self._loader.library, device):
                            found.add(f"{device}/{number}")
        return frozenset(found)

    def give_up(self, why: str) -> None:
        """Nothing is tried again from now on."""
        for one in self.waiting:
            log.warning("%s is not tried again: %s", one.name, why)
            one.waiting = set()
