"""The one stream of events that progress, log, JSON lines, JUnit and the exit code are views of."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.base.problem import Problem


class State(StrEnum):
    """What became of a step."""

    START = "start"
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOTE = "note"
    WARNING = "warning"


@dataclass(frozen=True)
class Event:
    """One step of one phase, on one node or on none (""), with its duration in seconds when it ended."""

    run: str
    phase: str
    node: str
    step: str
    state: State
    duration: float | None = None
    detail: str = ""
    at: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values in the order of the fields, for JSON."""
        return {**asdict(self), "state": self.state.value}


Sink = Callable[[Event], None]


@dataclass
class Emitter:
    """Makes events for one run and phase and hands each to every sink, one at a time."""

    run: str = ""
    phase: str = ""
    sinks: list[Sink] = field(default_factory=list)
    clock: Clock = SYSTEM
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def in_phase(self, phase: str) -> Emitter:
        """The same sinks, under the name of another phase."""
        return Emitter(self.run, phase, self.sinks, self.clock, self._lock)

    def emit(self, node: str, step: str, state: State, detail: str = "", duration: float | None = None) -> None:
        event = Event(self.run, self.phase, node, step, state, duration, detail, self.clock.wall())
        with self._lock:
            for sink in tuple(self.sinks):
                try:
                    sink(event)
                except OSError:  # whoever watched went away, a closed terminal or the end of a pipe: that ends no run
                    self.sinks.remove(sink)

    def note(self, step: str, detail: str = "", node: str = "") -> None:
        self.emit(node, step, State.NOTE, detail)

    def warn(self, step: str, detail: str = "", node: str = "") -> None:
        self.emit(node, step, State.WARNING, detail)

    @contextlib.contextmanager
    def step(self, step: str, node: str = "", detail: str = "") -> Iterator[Detail]:
        """Announce a step, then how it ended and how long it took.

        The detail shown at the end can be set on the object that is yielded.
        """
        began = self.clock.monotonic()
        self.emit(node, step, State.START, detail)
        end = Detail()
        try:
            yield end
        except BaseException as error:
            self.emit(node, step, State.FAILED, _words(error), self.clock.monotonic() - began)
            raise
        self.emit(node, step, end.state, end.text, self.clock.monotonic() - began)


def _words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) if isinstance(error, (Problem, OSError)) else type(error).__name__


@dataclass
class Detail:
    """What a step says of itself when it is over."""

    text: str = ""
    state: State = State.OK
