"""The two kinds of error, and the exit code that each problem means.

A `Failure` is ours and explained. What is neither a `Failure`, nor a `base` problem, nor the machine's own fault (a full disk)
is a bug: exit code 3.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from enum import IntEnum

from g5kdeploy.base.files import Held
from g5kdeploy.base.problem import DeadlinePassed, Problem


class ExitCode(IntEnum):
    """What the process says to the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BUG = 3
    NOT_ALLOWED = 4
    PARTLY = 5
    NO_RESOURCES = 6
    HELD = 7
    CHANGES = 8
    DEADLINE = 9
    INTERRUPTED = 130
    TERMINATED = 143


class Failure(Problem):
    """The operation failed."""

    code = ExitCode.FAILED


class InvalidUse(Failure):
    """A file or a command line is wrong; the user can mend it."""

    code = ExitCode.USAGE


class NotAllowed(Failure):
    """Credentials are missing, wrong or unprotected, or the testbed says no to this user."""

    code = ExitCode.NOT_ALLOWED


class NoResources(Failure):
    """More nodes than exist, none free in the window, or the reservation was refused."""

    code = ExitCode.NO_RESOURCES


class TimeOver(Failure):
    """A deadline passed, the walltime among them."""

    code = ExitCode.DEADLINE


# When several nodes fail for several reasons, the narrower code wins: first in this list.
_NARROWEST_FIRST = (
    ExitCode.INTERRUPTED, ExitCode.TERMINATED, ExitCode.BUG, ExitCode.NOT_ALLOWED, ExitCode.USAGE, ExitCode.HELD,
    ExitCode.NO_RESOURCES, ExitCode.DEADLINE, ExitCode.CHANGES, ExitCode.PARTLY, ExitCode.FAILED, ExitCode.DONE,
)  # fmt: skip


THE_MACHINES_FAULT = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP,
        errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    }
)  # fmt: skip
"""What the system says (errno) when a disk is full, a folder cannot be written, or it has nothing left to give: no bug."""


def exit_code(error: BaseException) -> ExitCode:
    """The exit code that an error means."""
    if isinstance(error, Failure):
        return error.code
    if isinstance(error, DeadlinePassed):
        return ExitCode.DEADLINE
    if isinstance(error, Held):
        return ExitCode.HELD
    if isinstance(error, Problem) or (isinstance(error, OSError) and error.errno in THE_MACHINES_FAULT):
        return ExitCode.FAILED
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return ExitCode.BUG


def narrowest(codes: Iterable[ExitCode]) -> ExitCode:
    """The code that tells most, of several."""
    return min(codes, key=_NARROWEST_FIRST.index, default=ExitCode.DONE)
