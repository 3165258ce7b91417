"""The environments that the lab builds itself: the standard one between jobs, and those that are registered by name."""

from __future__ import annotations

import threading
from collections.abc import Callable

from g5kdeploy.base import debian
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.lab.site import disk
from g5kdeploy.lab.site.systems import System

STANDARD = "standard"
NAMES = (STANDARD, "debian12-min", "debian12-std")
AT_START = ("debian12-min",)
"""What `lab start` builds; the others are built, without any download, when a job or a deployment asks for them."""


class Builder:
    """Builds environments, each once; later calls are answered from memory."""

    def __init__(self) -> None:
        self._built: dict[str, System] = {}
        self._lock = threading.Lock()

    def system(self, name: str, deadline: Deadline, say: Callable[[str], None] = lambda line: None) -> System:
        """The system of an environment; the standard one lives on its own partition, others on the one to deploy to."""
        with self._lock:
            if name not in self._built:
                say(f"environment {name}")
                made = debian.environment(name, deadline)
                partition = disk.PROD if name == STANDARD else disk.DEPLOY
                where = f"PARTLABEL={partition}"
                append = f"{made.append} root={where} store={where}"
                self._built[name] = System(name, made.kernel, made.initrd, append, made.image, partition)
            return self._built[name]
