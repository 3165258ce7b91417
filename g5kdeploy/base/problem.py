"""A problem that can be explained: what, why, what to do, where the log is.

`events.failure` gives each kind of problem its exit code; this room knows only how one is told.
"""

from __future__ import annotations

from pathlib import Path


class Problem(Exception):
    """Something went wrong for a reason that the user can be told; never shown with a traceback."""

    def __init__(self, what: str, *, cause: str = "", hint: str = "", log: Path | str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.hint = hint
        self.log = log

    def __str__(self) -> str:
        return f"{self.what}: {self.cause}" if self.cause else self.what


class DeadlinePassed(Problem):
    """What was waited for did not come before its deadline."""
