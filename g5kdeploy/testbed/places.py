"""A testbed is chosen by name; the name stands for the home folder that holds its credentials and SSH settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base import folders
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import Failure, InvalidUse
from g5kdeploy.testbed import credentials
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
    if name == GRID5000:
        return Testbed(name, Path.home())
    if name != LAB:
        raise InvalidUse(f"there is no testbed {name!r}", hint=f"the testbeds are {LAB} and {GRID5000}")
    home = folders.state() / "lab" / "home"
    if not (home / credentials.FILE_NAME).exists():
        raise Failure("no lab runs here", cause=f"{home} holds no credentials", hint="g5kdeploy lab start")
    return Testbed(name, home)


def connect(testbed: Testbed, emit: Emitter | None = None) -> Api:
    """A client with that testbed's credentials; nothing is sent yet.

    The user's environment is for Grid'5000 alone: the lab must never be shown a real password.
    """
    environ = {} if testbed.name == LAB else os.environ
    return Api(credentials.load(testbed.home, environ), emit)
