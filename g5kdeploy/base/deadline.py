"""Deadlines instead of timeouts: the moment at which a wait must give up, and what it was waiting for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.base.text import human_seconds


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock, in seconds; passed down from caller to callee, never started afresh there."""

    at: float
    what: str
    allowed: float = 0.0
    clock: Clock = field(default=SYSTEM, compare=False, repr=False)

    @classmethod
    def after(cls, seconds: float, what: str, clock: Clock = SYSTEM) -> Deadline:
        """The moment `seconds` from now, for `what` (a noun phrase: "the kexec of vm-1")."""
        return cls(clock.monotonic() + seconds, what, seconds, clock)

    def within(self, seconds: float, what: str) -> Deadline:
        """A part of this wait: at most `seconds` from now, and never later than this deadline itself."""
        own = Deadline.after(seconds, what, self.clock)
        return own if own.at <= self.at else replace(self, what=what)

    def remaining(self) -> float:
        """Seconds left, 0 when there are none."""
        return max(0.0, self.at - self.clock.monotonic())

    def passed(self) -> bool:
        return self.clock.monotonic() >= self.at

    def check(self, cause: str = "") -> None:
        """Raise `DeadlinePassed` when it is over; `cause` is what was seen last."""
        if self.passed():
            raise self.error(cause)

    def sleep(self, seconds: float, cause: str = "") -> None:
        """Sleep, but not past the deadline; raise when that is where we are."""
        self.check(cause)
        self.clock.sleep(min(seconds, self.remaining()))

    def error(self, cause: str = "") -> DeadlinePassed:
        allowed = f" after {human_seconds(self.allowed)}" if self.allowed else ""
        return DeadlinePassed(f"gave up on {self.what}{allowed}", cause=cause)
