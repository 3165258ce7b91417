"""Commands played on the clock, for a site without a frontend: `sleep`, `exit` and a few that do nothing."""

from __future__ import annotations

import re
import shlex
import signal

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.oar.model import Command, Job

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NOT_FOUND = 127 << 8
_WITHOUT_EFFECT = frozenset(
    {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
    | {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
)
"""Signals that end no process."""
_QUIET = ("echo", "true", ":", "cd", "export", "date", "hostname")


class Played:
    """A command whose end is known from the start."""

    def __init__(self, clock: Clock, ends_at: float, status: int) -> None:
        self._clock = clock
        self._ends_at = ends_at
        self._status = status
        self._signal = 0

    def poll(self) -> int | None:
        if self._signal:
            return self._signal
        return self._status if self._clock.wall() >= self._ends_at else None

    def kill(self) -> None:
        self._signal = signal.SIGTERM

    def signal(self, number: int) -> None:
        """It catches none: whatever ends a process by default ends it."""
        if number not in _WITHOUT_EFFECT:
            self._signal = self._signal or number


def play(job: Job, again: bool, clock: Clock) -> Command:
    """Begin to play a job's command; again: it began when the job did, before this process."""
    seconds, status = run_time(job.command or "" if job.script is None else job.script)
    return Played(clock, (job.started_at if again else clock.wall()) + seconds, status)


def run_time(script: str) -> tuple[float, int]:
    """How long a script would run, in seconds (infinity for `sleep infinity`), and its wait status."""
    total, status = 0.0, 0
    for part in re.split(r"[;\n]|&&", script):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            return total, 2 << 8
        if not words:
            continue
        name = words[0]
        if name == "sleep":
            total += sum(_seconds(word) for word in words[1:])
            status = 0
        elif name == "exit":
            return total, int(words[1]) % 256 << 8 if len(words) > 1 and words[1].isdigit() else status
        elif name == "false":
            status = 1 << 8
        else:
            status = 0 if name in _QUIET else _NOT_FOUND
    return total, status


def _seconds(word: str) -> float:
    if word in ("inf", "infinity"):
        return float("inf")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", word)
    return float(match[1]) * _UNITS[match[2]] if match else 0.0
