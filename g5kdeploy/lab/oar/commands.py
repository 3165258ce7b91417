"""Commands played on the clock, for a site without a frontend: `sleep`, `exit`, `kill $$` and a few that do nothing."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.oar.model import Command, Job

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NOT_FOUND = 127 << 8
_WITHOUT_EFFECT = frozenset(
    {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
    | {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
)
"""Signals that end no process."""
_SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash")
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

    def signal(self, number: int, _told: str) -> None:
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
    try:
        commands = list(_commands(script))
    except ValueError:
        return total, 2 << 8
    for words in commands:
        name = words[0]
        if name == "sleep":
            total += sum(_seconds(word) for word in words[1:])
            status = 0
        elif name == "exit":
            return total, int(words[1]) % 256 << 8 if len(words) > 1 and words[1].isdigit() else status
        elif name == "kill" and "$$" in words:
            return total, _killed(words[1:])
        elif name in _SHELLS and words[1:2] in (["-c"], ["-lc"]) and len(words) > 2:
            seconds, status = run_time(words[2])
            total += seconds
            status = status if status >= 256 or not status else (128 + status) << 8
        elif name == "false":
            status = 1 << 8
        else:
            status = 0 if name in _QUIET else _NOT_FOUND
    return total, status


def _commands(script: str) -> Iterator[list[str]]:
    """The simple commands of a script, as words. Raises `ValueError` for quotes that do not end."""
    for line in script.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word and not set(word) <= set(";&|()"):
                words.append(word)
            elif words:
                yield words
                words = []


def _killed(words: list[str]) -> int:
    """The wait status of a shell that kills itself."""
    named = next((word.lstrip("-") for word in words if word not in ("$$", "-s")), "TERM")
    return signal_number(named) or int(signal.SIGTERM)


def signal_number(name: str) -> int:
    """The number of a signal by its name or number; 0 for a word that is none."""
    if name.isdecimal():
        return int(name)
    found = getattr(signal, f"SIG{name.upper().removeprefix('SIG')}", 0)
    return int(found) if isinstance(found, signal.Signals) else 0


def _seconds(word: str) -> float:
    if word in ("inf", "infinity"):
        return float("inf")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", word)
    return float(match[1]) * _UNITS[match[2]] if match else 0.0
