"""What a test script's calls raise."""

from __future__ import annotations

from datetime import timedelta

from g5kdeploy.base.problem import Problem


class RequestedAssertionFailed(Problem):
    """What the script demanded of a machine did not hold; named as in the NixOS test driver."""


class Unsupported(Problem):
    """A call that these machines cannot do, whatever the script; the message names it."""

    def __init__(self, machine: str, call: str, why: str, hint: str = "") -> None:
        super().__init__(
            f"{machine}.{call}() cannot be done" if machine else f"{call}() cannot be done", cause=why, hint=hint
        )
        self.call = call


class TimeUp(BaseException):
    """The script's time is over: raised in the middle of whatever it does, past its own `except Exception`."""


def in_seconds(timeout: float | timedelta) -> float:
    """A timeout as scripts give it: seconds, or a timedelta."""
    return timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
