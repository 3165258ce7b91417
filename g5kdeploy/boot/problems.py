"""What can go wrong between a closure in a cache and a node that runs it."""

from __future__ import annotations

from g5kdeploy.events.failure import ExitCode, Failure


class BootFailed(Failure):
    """A node did not come to its closure."""


class SignatureRefused(BootFailed):
    """A path in the cache carries no signature that the node was told to trust."""

    code = ExitCode.NOT_ALLOWED


class PathTampered(BootFailed):
    """A path's content is not what its signed description says, or its archive is cut."""


class CacheUnreachable(BootFailed):
    """The node cannot fetch from the cache."""


class NoRoom(BootFailed):
    """The closure fits neither on the node's scratch partition nor into its memory."""


class KexecNotStarted(BootFailed):
    """The new kernel was loaded and called, and the node went on running the old one."""

    code = ExitCode.DEADLINE


class NotAnswering(BootFailed):
    """The old system is gone and the new one did not answer in time."""

    code = ExitCode.DEADLINE


class WrongSystem(BootFailed):
    """The node answers, but what it runs is not what was asked for."""
