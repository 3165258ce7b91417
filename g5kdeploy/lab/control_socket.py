"""The socket in a lab's folder over which orders reach the running lab: one line of JSON there, one back."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.accepting import connections

log = logging.getLogger(__name__)

LONGEST_LINE = 2**20
SECONDS = 30.0


class WrongOrder(Problem):
    """An order that no lab, or not this one, can take: whoever gave it has to mend it."""


class Listener:
    """Takes orders until it is stopped. `take` gives lines, or raises `Problem`."""

    def __init__(self, path: Path, take: Callable[[Mapping[str, Any]], list[str]]) -> None:
        self.path, self._take = path, take
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _at(path) as name:
            self._socket.bind(name)
        path.chmod(0o600)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, name="lab-orders", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(SECONDS)
        self.path.unlink(missing_ok=True)

    def _serve(self) -> None:
        for connection in connections(self._socket):
            connection.settimeout(SECONDS)
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(self._answer(connection)).encode() + b"\n")

    def _answer(self, connection: socket.socket) -> dict[str, Any]:
        try:
            with connection.makefile("rb") as stream:
                return {"lines": self._take(json.loads(stream.readline(LONGEST_LINE)))}
        except Problem as problem:
            wrong = isinstance(problem, WrongOrder)
            return {"what": problem.what, "cause": problem.cause, "hint": problem.hint, "wrong": wrong}
        except Exception as error:
            log.exception("an order failed")
            return {"what": "the order failed", "cause": f"{type(error).__name__}: {error}", "hint": "", "wrong": False}


def ask(path: Path, order: Mapping[str, Any], deadline: Deadline) -> list[str]:
    """Give an order to the lab that listens there; what it says of it. Raises `WrongOrder` or another `Problem`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(min(SECONDS, deadline.remaining()))
        try:
            with _at(path) as name:
                connection.connect(name)
            connection.sendall(json.dumps(dict(order)).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer = json.loads(stream.readline(LONGEST_LINE))
        except (OSError, ValueError) as error:
            raise Problem("the lab takes no orders", cause=str(error), hint="g5kdeploy lab status") from error
    if "what" in answer:
        kind = WrongOrder if answer["wrong"] else Problem
        raise kind(answer["what"], cause=answer["cause"], hint=answer["hint"])
    return list(answer["lines"])


@contextlib.contextmanager
def _at(path: Path) -> Any:
    """A name for a socket that is short enough for the system, however deep its folder is."""
    import os

    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
