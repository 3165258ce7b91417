"""The one adapter that owns python-grid5000: deadlines, safe repeats, pages, and answers that are understood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.event import Emitter
from g5kdeploy.testbed.credentials import Credentials


class Api:
    """A client of one testbed; safe to use from several threads. Close it, or use it as a context."""

    def __init__(self, credentials: Credentials, emit: Emitter | None = None, clock: Clock = SYSTEM) -> None:
        self.credentials = credentials
        self.emit = emit or Emitter()
        self.clock = clock

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        raise NotImplementedError

    def get(self, path: str, deadline: Deadline, **params: Any) -> Any:
        """The document at `path` ("/sites/lab/status"), repeated when that is safe and useful."""
        raise NotImplementedError

    def items(self, path: str, deadline: Deadline, **params: Any) -> list[dict[str, Any]]:
        """All items of a collection, however many pages it has."""
        raise NotImplementedError

    def post(self, path: str, body: Any, deadline: Deadline) -> Any:
        """Send once and never again; raises `Unclear` when nobody can say whether it was done."""
        raise NotImplementedError

    def put(self, path: str, body: Mapping[str, Any], deadline: Deadline) -> None:
        raise NotImplementedError

    def delete(self, path: str, deadline: Deadline) -> None:
        raise NotImplementedError
