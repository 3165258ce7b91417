"""A clock whose time passes only where somebody sleeps, so that no test depends on how fast the machine is."""

from __future__ import annotations

import threading
import time

from g5kdeploy.base.clock import Clock


class VirtualTime:
    """`clock` for what is tested; `slept` is how long it has slept, in seconds."""

    def __init__(self) -> None:
        self._began = time.time()
        self.slept = 0.0
        self._lock = threading.Lock()
        self.clock = Clock(self._monotonic, self._wall, self._sleep)

    def _monotonic(self) -> float:
        return 1000.0 + self.slept

    def _wall(self) -> float:
        return self._began + self.slept

    def _sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept += max(0.0, seconds)
        time.sleep(0.001)
