"""How a problem is told: `error:`, `cause:`, `hint:`, `log:` on stderr; a report to paste when it is a bug of ours."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import time
import traceback
from typing import TextIO

import click

from g5kdeploy import __version__
from g5kdeploy.base import files, folders
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import clean, redact
from g5kdeploy.events.failure import ExitCode, exit_code

SECRET_WORDS = ("PASSWORD", "TOKEN", "SECRET")


def code_of(error: BaseException) -> ExitCode:
    """The exit code of whatever ended a command line, click's own errors and signals among them."""
    from g5kdeploy.cli.main import Terminated

    if isinstance(error, click.Abort):
        return ExitCode.INTERRUPTED
    if isinstance(error, Terminated):
        return ExitCode.TERMINATED
    if isinstance(error, click.ClickException):
        return ExitCode.USAGE
    return exit_code(error)


def tell(error: BaseException, args: list[str], stream: TextIO) -> int:
    """Write what went wrong and return the exit code; nothing that this meets can make it raise."""
    code = code_of(error)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.FAILED
    try:
        lines = _lines(error, code, args)
        print(*lines, sep="\n", file=stream, flush=True)
    except OSError:
        pass  # stderr is gone: the code still says it
    return code


def _lines(error: BaseException, code: ExitCode, args: list[str]) -> list[str]:
    if isinstance(error, Problem):
        return explain(error)
    if isinstance(error, click.ClickException):
        lines = [f"error: {' '.join(error.format_message().split())}"]
        if isinstance(error, click.UsageError) and error.ctx is not None:
            lines.append(f"hint: {_way_out(error, error.ctx)}")
        return lines
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        return ["interrupted" if code is ExitCode.INTERRUPTED else "terminated"]
    if isinstance(error, OSError) and code is ExitCode.FAILED:
        return explain(_of_the_machine(error))
    return explain(_bug(error, args))


def _way_out(error: click.UsageError, context: click.Context) -> str:
    if isinstance(error, click.NoSuchOption) and context.parent is None:
        return f"options stand behind the command: {context.command_path} COMMAND {error.option_name}"
    return f"{context.command_path} --help"


def _of_the_machine(error: OSError) -> Problem:
    """A full disk, a folder that cannot be written, and the like."""
    what = f"{error.filename} cannot be used" if error.filename else "this machine cannot go on"
    elsewhere = "G5KDEPLOY_HOME puts state and cache elsewhere, --runs the runs"
    hints = {
        errno.ENOSPC: f"make room there; {elsewhere}",
        errno.EDQUOT: f"make room there; {elsewhere}",
        errno.ENAMETOOLONG: "a name has at most 255 bytes, a path at most 4095",
        errno.EMFILE: "ulimit -n says how many files a process may open",
        errno.ENFILE: "the whole machine has too many files open",
        errno.ENOMEM: "",
    }
    return Problem(what, cause=error.strerror or str(error), hint=hints.get(error.errno or 0, elsewhere))


def explain(problem: Problem) -> list[str]:
    """A problem's lines; further lines of a text are indented beneath its first."""
    parts = {"error": problem.what, "cause": problem.cause, "hint": problem.hint, "log": str(problem.log or "")}
    return [f"{word}: " + clean(text).strip().replace("\n", "\n  ") for word, text in parts.items() if text]


def _bug(error: BaseException, args: list[str]) -> Problem:
    """A bug as a problem whose log is the report; secrets of the environment are blotted out of it."""
    what = f"a bug in g5kdeploy: {type(error).__name__}: {error}"
    secrets = [value for name, value in os.environ.items() if any(word in name.upper() for word in SECRET_WORDS)]
    report = "\n".join(
        [
            f"g5kdeploy {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"command: {shlex.join(['g5kdeploy', *args])}",
            f"time: {time.strftime('%Y-%m-%dT%H:%M:%S%z')}",
            "",
            "".join(traceback.format_exception(error)),
        ]
    )
    path = folders.state() / "bugs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        files.write(path, redact(report, secrets).encode(errors="backslashreplace"), 0o600)
    except OSError:
        return Problem(redact(what, secrets), cause=redact(report, secrets), hint="please report it with these lines")
    return Problem(redact(what, secrets), hint="please report it with the text of this file", log=path)
