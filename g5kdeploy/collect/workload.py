"""The workload of a benchmark: detached on its node, followed from here, attached to again when the client died."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node import Remote


class Outcome(StrEnum):
    """How a workload ended."""

    DONE = "done"  # exit status 0
    FAILED = "failed"  # another exit status, or killed by a signal
    TIMEOUT = "timeout"  # its own deadline on the node ended it
    LOST = "lost"  # the node rebooted or the unit vanished without a word


@dataclass(frozen=True)
class Workload:
    """A shell command with its own deadline on the node.

    `name` identifies it on the node: the same name is the same workload. `timeout` is in seconds. `files` are paths
    on the node (shell patterns allowed) that `fetch_files` brings back. `slice` is the unit's cgroup, `<slice>.slice`.
    """

    name: str
    command: str
    timeout: float
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    user: str = "root"
    slice: str = "g5kdeploy-workload"


@dataclass(frozen=True)
class WorkloadResult:
    """How it ended: outcome, exit status (None when there is none), the node's own unix times."""

    outcome: Outcome
    status: int | None
    started: float
    ended: float
    signal: str = ""
    detail: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.started


def start_workload(remote: Remote, workload: Workload, deadline: Deadline) -> bool:
    """Start it detached; True: started now. False: it runs or is over; `follow` attaches."""
    raise ConnectionError


def follow(
    remote: Remote,
    workload: Workload,
    deadline: Deadline,
    out: Callable[[str], None] | None = None,
) -> WorkloadResult:
    """Hand on its output lines from the beginning until it ends, across lost connections; how it ended.

    Never raises because the workload failed: that is in the result. Raises `DeadlinePassed` at the deadline and
    leaves the workload running.
    """
    raise ConnectionError


def stop_workload(remote: Remote, workload: Workload, deadline: Deadline) -> None:
    """End it and everything it started; nothing happens when it is over."""
    raise ConnectionError
