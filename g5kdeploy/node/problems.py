"""What can go wrong between here and a node, told so that it can be mended."""

from __future__ import annotations

from dataclasses import dataclass

from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import clean, human_bytes, tail
from g5kdeploy.events.failure import ExitCode, Failure


@dataclass(frozen=True)
class Result:
    """What a command on a node said, its exit status (-1: killed by a signal) and its seconds.

    `data` is stdout as it came; `stdout` and `stderr` are text, not cleaned of control characters.
    """

    stdout: str
    stderr: str
    status: int
    seconds: float
    data: bytes = b""


def shorten(command: str, width: int = 160) -> str:
    """The first line of a command, short enough for a sentence."""
    first, *rest = command.strip().splitlines() or [""]
    return first[:width] + ("…" if rest or len(first) > width else "")


class Unreachable(Failure):
    """No SSH connection could be made: no route, refused, no answer, an unknown name, a gateway that is away."""


class LoginRefused(Unreachable):
    """The node answers, and takes none of the keys that were offered."""

    code = ExitCode.NOT_ALLOWED


class HostKeyChanged(Failure):
    """The node shows another host key than the one pinned: not the machine that was deployed, or deployed again."""

    code = ExitCode.NOT_ALLOWED


class ConnectionLost(Failure):
    """The connection broke while a command ran: whether it ended, and how, is not known."""


def broke(node: str, shown: str, cause: str) -> ConnectionLost:
    """The connection to a node went away under a command."""
    return ConnectionLost(
        f"the connection to {node} broke while `{shown}` ran",
        cause=cause,
        hint="whether the command ended is not known",
    )


class Overflow(Problem):
    """A command gave more than was allowed."""


def overflow(node: str, shown: str, limit: int, hint: str = "keep it there, then fetch it: g5kdeploy cp") -> Overflow:
    """A command gave more than `limit` bytes, and was cut off."""
    return Overflow(f"{node}: `{shown}` gives more than {human_bytes(limit)}", hint=hint)


class RemoteFailed(Failure):
    """A command on a node ended with a status other than 0; `result` has it."""

    def __init__(self, node: str, command: str, result: Result, hint: str = "") -> None:
        said = clean(tail(result.stderr) or tail(result.stdout))
        how = "was killed by a signal" if result.status < 0 else f"failed with status {result.status}"
        super().__init__(f"{node}: `{shorten(command)}` {how}", cause=said or "it said nothing", hint=hint)
        self.node = node
        self.result = result
