"""The workload of a benchmark: detached on its node, followed from here, attached to again when the client died."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.base.text import human_seconds
from g5kdeploy.collect import units
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.node import ConnectionLost, Remote, Unreachable

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RETRY = 2.0  # seconds before a node that went out of sight is tried again
_CLOCK_SET = 0.5  # seconds by which clock and uptime differ only when somebody set the clock
_SOON = 0.2  # seconds between looks at a unit that is about to start or to end


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
    `base` is the folder on the node that has a folder for each unit.
    """

    name: str
    command: str
    timeout: float
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    user: str = "root"
    slice: str = "g5kdeploy-workload"
    base: str = units.BASE

    @property
    def unit(self) -> units.Unit:
        """The transient unit that it is on the node."""
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise InvalidUse(f"`{name}` cannot name an environment variable")
        # In a file that its user alone can read, not in the unit's properties, which everybody on the node can.
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return units.Unit(
            name=f"workload-{self.name}",
            program="\n".join([*lines, f"exec /bin/sh -c {shlex.quote(self.command)}", ""]),
            argv=("/bin/sh", "{folder}/program"),
            slice=self.slice,
            once=True,
            timeout=self.timeout,
            user=self.user,
            base=self.base,
        )


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
    return units.start(remote, workload.unit, deadline) == units.STARTED


def follow(
    remote: Remote,
    workload: Workload,
    deadline: Deadline,
    out: Callable[[str], None] | None = None,
    out_of_sight: Callable[[Problem], None] = lambda problem: None,
    renewed: Callable[[], Deadline] | None = None,
) -> WorkloadResult:
    """Hand on its output lines from the beginning until it ends, across lost connections; how it ended.

    Never raises because the workload failed: that is in the result. Raises `DeadlinePassed` at the deadline and
    leaves the workload running; `renewed` is asked then whether there is more time by now. `out_of_sight` is told
    whenever the node cannot be seen, and may raise to give up.
    """
    seen = _Seen(out)
    while True:
        try:
            return _follow(remote, workload, deadline, seen, out_of_sight)
        except DeadlinePassed:
            if renewed is None or (deadline := renewed()).passed():
                raise


def _follow(
    remote: Remote, workload: Workload, deadline: Deadline, seen: _Seen, out_of_sight: Callable[[Problem], None]
) -> WorkloadResult:
    while True:
        try:
            report = _watch(remote, workload, deadline, seen)
        except (ConnectionLost, Unreachable) as problem:
            out_of_sight(problem)
            try:
                deadline.sleep(_RETRY, str(problem))
                deadline.check(str(problem))
            except DeadlinePassed as passed:
                passed.hint = f"the workload may still run on {remote.name}"
                raise passed from problem
            continue
        if report is not None:
            seen.end()
            return _result(workload, report)
        deadline.sleep(_SOON, f"{workload.name} runs on {remote.name}")


def stop_workload(remote: Remote, workload: Workload, deadline: Deadline) -> None:
    """End it and everything it started; nothing happens when it is over."""
    units.stop(remote, workload.unit, deadline)


class _Seen:
    """How many bytes of each stream were handed on, so that the next connection goes on from there."""

    def __init__(self, out: Callable[[str], None] | None) -> None:
        from g5kdeploy.node.talk import Lines

        self.bytes = {"stdout": 0, "stderr": 0}
        self._lines = {name: Lines(out or (lambda line: None)) for name in self.bytes}

    def take(self, stream: str, block: bytes) -> None:
        self.bytes[stream] += len(block)
        self._lines[stream].feed(block)

    def end(self) -> None:
        for lines in self._lines.values():
            lines.end()


# Streams what is new, and ends soon after the main process did; whoever breaks off leaves nothing behind but two
# `tail`s that end with it.
_TAIL = """\
cd {folder} 2>/dev/null || exit 0
p=$(systemctl show -p MainPID --value {unit})
if [ -e status ] || [ "${{p:-0}}" = 0 ]; then w=; else w="-f --pid=$p"; fi
tail -c +{stdout} $w stdout 2>/dev/null & tail -c +{stderr} $w stderr >&2 2>/dev/null & wait
"""
# `running`, or `over` with all that is known. A unit that is neither running nor recorded its end has vanished; asked
# twice, because the end is recorded a moment after the main process is gone.
_REPORT = """\
for i in 1 2 3; do
  if [ -e {folder}/status ]; then break; fi
  case "$(systemctl show -p ActiveState --value {unit})" in
    active|activating|deactivating|reloading) echo state=running; exit 0;;
  esac
  sleep 0.3
done
echo state=over
cat {folder}/status 2>/dev/null
for f in started since boot; do echo "$f=$(cat {folder}/$f 2>/dev/null)"; done
echo "now=$(date +%s.%N)"
echo "boot_now=$(cat /proc/sys/kernel/random/boot_id)"
for f in stdout stderr; do echo "$f=$(wc -c < {folder}/$f 2>/dev/null)"; done
"""


def _watch(remote: Remote, workload: Workload, deadline: Deadline, seen: _Seen) -> dict[str, str] | None:
    """Follow on one connection; the report when it is over and all its output was seen, None to go on."""
    unit = workload.unit
    words = {"folder": shlex.quote(unit.folder), "unit": unit.unit}
    offsets = {stream: count + 1 for stream, count in seen.bytes.items()}
    remote.pipe(
        _TAIL.format(**words, **offsets),
        deadline,
        stdout=lambda block: seen.take("stdout", block),
        stderr=lambda block: seen.take("stderr", block),
    )
    said = remote.run(_REPORT.format(**words), deadline).stdout
    report = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if report.get("state") != "over":
        return None
    short = any(seen.bytes[stream] < int(report.get(stream) or 0) for stream in seen.bytes)
    return None if short else report


def _result(workload: Workload, report: dict[str, str]) -> WorkloadResult:
    """What systemd recorded, as an outcome."""
    started = float(report.get("started") or 0)
    if "result" not in report:
        ended = float(report.get("now") or started)
        return WorkloadResult(Outcome.LOST, None, started, max(started, ended), detail=_lost_because(report))
    ended = float(report.get("ended") or started)
    if report.get("since") and report.get("until"):
        lasted = float(report["until"]) - float(report["since"])
        if abs(ended - started - lasted) > _CLOCK_SET:
            ended = started + lasted
    result, code, status = report["result"], report.get("code", ""), report.get("status", "")
    number = int(status) if code == "exited" and status.isdigit() else None
    signal = status if code in ("killed", "dumped") else ""
    if result == "timeout":
        detail = f"it was ended after its timeout of {human_seconds(workload.timeout)}"
        return WorkloadResult(Outcome.TIMEOUT, number, started, ended, signal, detail)
    if number == 0 and result == "success":
        return WorkloadResult(Outcome.DONE, 0, started, ended)
    detail = f"exit status {number}" if number is not None else f"killed by SIG{signal}" if signal else result
    if result == "oom-kill":
        detail += ", the node ran out of memory"
    if not started:
        detail = f"it could not be started ({detail})"
    return WorkloadResult(Outcome.FAILED, number, started or ended, ended, signal, detail)


def _lost_because(report: dict[str, str]) -> str:
    if not report.get("boot"):
        return "there is no trace of it on the node: it was never started there, or the node has another system now"
    if report["boot"] != report.get("boot_now"):
        return "the node rebooted meanwhile"
    return "its unit is gone and left no exit status"
