"""The way in: parse, call, and turn whatever comes out into words on stderr and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, TextIO

import click

from g5kdeploy import __version__
from g5kdeploy.cli.table import LazyGroup

COMPLETE = "_G5KDEPLOY_COMPLETE"  # set by the completion script of a shell
SETTINGS = {"help_option_names": ["-h", "--help"]}

root = LazyGroup(
    "g5kdeploy",
    context_settings=SETTINGS,
    help="From one experiment file to a reproducible run on Grid'5000, or on a local stand-in for it.\n\n"
    "\b\nExample:\n  g5kdeploy lab start\n  g5kdeploy run composition/statx/experiment.yaml --testbed lab",
    no_args_is_help=False,
    invoke_without_command=True,
    callback=lambda: None,
)
root = click.version_option(__version__, "-V", "--version", prog_name="g5kdeploy", message="%(prog)s %(version)s")(root)


class Terminated(BaseException):
    """SIGTERM came, or the terminal was closed (SIGHUP): everything that was started is stopped on the way out."""


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it comes twice, or beside a SIGTERM, when a session ends
    if number == signal.SIGTERM:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends us at once
    raise Terminated


def _listen() -> None:
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
        signal.signal(signal.SIGHUP, _terminate)


def process() -> int:
    """`main`, and the end of the process with it.

    Connections have threads that wait in C. One that wakes up while the interpreter is taken apart may crash it, and the exit
    code with it; so when all else is done (this is registered first) the process ends at once.
    """
    code = [1]
    atexit.register(lambda: _leave(code[0]))
    code[0] = main()
    return code[0]


def _leave(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's); never raises, returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    with contextlib.suppress(ValueError):  # not the main thread: a test's
        _listen()
    sys.stdout, sys.stderr = (stream or _nowhere() for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a terminal that knows no µ gets a `?`
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        return _call(args)
    except BrokenPipeError as error:
        if _stdout_is_open():
            return _told(error, args)
        return 1  # whoever read our answer went away: no word about it
    except BaseException as error:  # noqa: BLE001  the last resort: everything ends in an exit code
        return _told(error, args)


def _nowhere() -> TextIO:
    """What stands in for a stream that the shell closed (`>&-`): Python has None for it."""
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _call(args: list[str]) -> int:
    """What the command returns is the exit code; None means 0. `help COMMAND` is `COMMAND --help`."""
    if strange := next((word for word in args if "\0" in word), None):
        raise click.UsageError(f"no path and no name has a NUL byte: {strange!r}")  # no shell gives one, a program may
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    if COMPLETE in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(root, {}, "g5kdeploy", COMPLETE, os.environ[COMPLETE])
    try:
        with root.make_context("g5kdeploy", args, terminal_width=_columns()) as context:
            if context.invoked_subcommand is None and not args:
                click.echo(context.get_help())
                result: Any = None
            else:
                result = root.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        sys.stdout.flush()
        return end.exit_code
    return int(result) if result is not None else 0


def _columns() -> int:
    """The width of help texts. click would ask `shutil`, whose import takes a tenth of the time of `--help`."""
    try:
        width = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(sys.stdout.fileno()).columns
    except (AttributeError, OSError, ValueError):
        width = 80
    return max(50, min(width, 100) - 2)


def _stdout_is_open() -> bool:
    import select

    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return True  # no file at all: a test's
    poll = select.poll()
    poll.register(descriptor, 0)
    if not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        return True
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # the interpreter flushes once more at exit
    return False


def _told(error: BaseException, args: list[str]) -> int:
    from g5kdeploy.cli import problems

    return problems.tell(error, args, sys.stderr)
