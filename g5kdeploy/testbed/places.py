"""A testbed is chosen by name; the name stands for the home folder that holds its credentials and SSH settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.events.event import Emitter
from g5kdeploy.testbed.api import Api

LAB = "lab"
GRID5000 = "grid5000"


@dataclass(frozen=True)
class Testbed:
    """A testbed by name, and the home with its `.python-grid5000.yaml` and `.ssh`."""

    __test__ = False  # not for pytest, whatever the name begins with

    name: str
    home: Path


def find(name: str) -> Testbed:
    """The testbed of that name: `lab` or `grid5000`. `InvalidUse` for another, `Failure` when no lab was started."""
    raise NotImplementedError


def connect(testbed: Testbed, emit: Emitter | None = None) -> Api:
    """A client with that testbed's credentials; nothing is sent yet."""
    raise NotImplementedError
