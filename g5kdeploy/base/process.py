"""The one door to other programs: own process group, deadline, redaction, transcript."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import clean, redact, tail

log = logging.getLogger(__name__)

GRACE = 3.0  # seconds between TERM and KILL


@dataclass(frozen=True)
class Done:
    """A program that ended: its words, its outputs, its exit status (negative: killed by that signal), its seconds."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


class CommandFailed(Problem):
    """A program ended with a status other than 0, or is not there at all (status 127)."""

    def __init__(self, done: Done, hint: str = "") -> None:
        said = clean(tail(done.stderr) or tail(done.stdout))
        super().__init__(
            f"`{shlex.join(done.argv)}` failed with status {done.returncode}",
            cause=said or "it said nothing",
            hint=hint,
        )
        self.done = done


def stop(process: subprocess.Popen[bytes], grace: float = GRACE) -> None:
    """End a process that leads its own group, and all of that group: TERM, then KILL; collect its status."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        try:
            process.wait(grace)
            break
        except subprocess.TimeoutExpired:
            continue
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # a child that outlived its parent


class _Pipes:
    """Feeds a program its input and gathers the lines of its outputs, each in a thread, so that no full pipe holds it up."""

    def __init__(
        self, process: subprocess.Popen[bytes], input: str | bytes | None, out: Callable[[str], None] | None
    ) -> None:
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._out = out
        assert process.stdout is not None and process.stderr is not None
        work: list[tuple[Callable[..., None], tuple[object, ...]]] = [
            (self._read, (process.stdout, self.stdout)),
            (self._read, (process.stderr, self.stderr)),
        ]
        if process.stdin is not None:
            work.append((self._feed, (process.stdin, input.encode() if isinstance(input, str) else input)))
        self._threads = [threading.Thread(target=target, args=args, daemon=True) for target, args in work]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for the ends; a daemon that the program left behind may hold the pipes open: no long wait for it."""
        for thread in self._threads:
            thread.join(GRACE)

    def _read(self, pipe: IO[bytes], into: list[str]) -> None:
        with pipe:
            for raw in pipe:
                line = raw.decode(errors="replace")
                into.append(line)
                if self._out is not None:
                    self._out(line.rstrip("\n"))

    def _feed(self, pipe: IO[bytes], data: bytes) -> None:
        with contextlib.suppress(OSError):  # it may end without reading all of it
            pipe.write(data)
        with contextlib.suppress(OSError):
            pipe.close()


def run(
    argv: Sequence[str | Path],
    deadline: Deadline,
    *,
    input: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    secrets: Iterable[str] = (),
    out: Callable[[str], None] | None = None,
    hint: str = "",
) -> Done:
    """Run a program to its end and return what it said.

    `env` is added to the environment; `out` is given each line of stdout and stderr as it comes; `secrets` are
    blotted out of everything that is logged or raised. Raises `CommandFailed` (with `check`) and `DeadlinePassed`;
    whatever is raised, KeyboardInterrupt included, the program and its children are ended first.
    """
    words = tuple(str(word) for word in argv)
    shown = tuple(redact(word, secrets) for word in words)
    log.debug("run: %s", shlex.join(shown))
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **env} if env is not None else None,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        done = Done(shown, 127, "", f"{error.strerror or error}: {error.filename or words[0]}", 0.0)
        if check:
            raise CommandFailed(done, hint) from error
        return done
    pipes = _Pipes(process, input, None if out is None else lambda line: out(redact(line, secrets)))
    try:
        process.wait(deadline.remaining())
    except subprocess.TimeoutExpired as error:
        stop(process)
        raise deadline.error(clean(tail("".join(pipes.stderr), 5)) or f"`{shlex.join(shown)}` did not end") from error
    except BaseException:
        stop(process)
        raise
    finally:
        pipes.join()
    stdout, stderr = (redact("".join(lines), secrets) for lines in (pipes.stdout, pipes.stderr))
    done = Done(shown, process.returncode, stdout, stderr, time.monotonic() - began)
    log.debug("ended with %s after %.1f s: %s", done.returncode, done.seconds, shlex.join(shown))
    if check and done.returncode != 0:
        raise CommandFailed(done, hint)
    return done
