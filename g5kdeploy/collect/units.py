"""Programs that run detached on a node, as transient systemd units with a folder of their own.

The folder holds everything that a client needs to attach: the program, its output (`stdout`, `stderr`), the boot it
belongs to (`boot`), and for programs that end: when they began (`began`) and how they ended (`status`), as systemd saw
it. A unit's name is its identity: starting it twice starts it once.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import Failure, InvalidUse
from g5kdeploy.node import ConnectionLost, Remote, RemoteFailed

BASE = "/var/lib/g5kdeploy"  # on the node; not /run, where a workload's output would fill the memory
STOP = 10  # seconds between TERM and KILL
STARTED, RUNS, OVER = "started", "runs", "over"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class NotStarted(Failure):
    """systemd on the node did not start a unit."""


@dataclass(frozen=True)
class Unit:
    """A transient unit: what it runs and within which bounds.

    `program` is the text of a file in the unit's folder, `argv` how it is run ("{folder}" stands for the folder).
    `once`: it runs to its end, once, and that end is recorded. `timeout` in seconds.
    """

    name: str
    program: str
    argv: Sequence[str]
    slice: str
    once: bool = False
    timeout: float | None = None
    user: str = "root"
    properties: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    base: str = BASE

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidUse(f"`{self.name}` cannot name a unit", cause="letters, digits, dots, dashes, underscores")

    @property
    def unit(self) -> str:
        return f"g5kdeploy-{self.name}.service"

    @property
    def folder(self) -> str:
        return f"{self.base}/{self.name}"

    def systemd_run(self, starter: str = "") -> list[str]:
        """The words that start it; `starter` is noted down for a unit that runs once."""
        folder = self.folder
        begin = f"ExecStartPre=+/bin/sh {folder}/begin {starter}".rstrip()
        own = [
            "Type=exec",
            "Delegate=yes",  # a workload may make cgroups of its own below its unit's
            f"TimeoutStopSec={STOP}",
            f"StandardOutput=append:{folder}/stdout",
            f"StandardError=append:{folder}/stderr",
            f"WorkingDirectory={folder}/work",
            *([f"RuntimeMaxSec={self.timeout:g}"] if self.timeout is not None else []),
            *([f"User={self.user}"] if self.user != "root" else []),
            *([begin, f"ExecStopPost=+/bin/sh {folder}/end"] if self.once else []),
            *self.properties,
        ]
        return [
            "systemd-run",
            "--quiet",
            "--collect",  # a failed unit does not stay: its status is in the folder
            f"--unit={self.unit}",
            f"--slice={self.slice}.slice",
            f"--description=g5kdeploy {self.name}",
            *(word for one in own for word in ("-p", one)),
            *(word.replace("{folder}", folder) for word in self.argv),
        ]


# Run by systemd as root, before and after a program that runs once. `mkdir` is the gate: of two, one gets through.
_BEGIN = """\
set -e
cd {folder}
mkdir began 2>/dev/null || {{ echo 'it ran before' >&2; exit 1; }}
echo "$1" > starter
date +%s.%N > started
cut -d ' ' -f 1 /proc/uptime > since
printf '%4000s\\n' > status.part  # room for the end: a program may fill the disk
"""
_END = """\
cd {folder}
[ ! -e status ] || exit 0
{{
  printf 'result=%s\\ncode=%s\\nstatus=%s\\n' "$SERVICE_RESULT" "$EXIT_CODE" "$EXIT_STATUS"
  date +ended=%s.%N
  echo "until=$(cut -d ' ' -f 1 /proc/uptime)"
}} 1<> status.part
mv status.part status
"""

# Says in one word what became of it; the program's text comes on stdin.
_START = """\
set -eu
state() {{ systemctl show -p ActiveState --value {unit}; }}
attach() {{
  if [ -e {folder}/status ]; then echo over; exit 0; fi
  case "$(state)" in active|activating|deactivating|reloading) echo runs; exit 0;; esac
  {once}if [ -d {folder}/began ]; then echo over; exit 0; fi
}}
attach
mkdir -p {folder}/work
cd {folder}
umask 077
cat > program.$$
{files}
{owner}
mv -f program.$$ program
cat /proc/sys/kernel/random/boot_id > boot.$$; mv -f boot.$$ boot
if {run} 2> refused; then echo started; exit 0; fi
# systemd also calls a start failed when the program ended at once.
if [ "$(cat starter 2>/dev/null)" = {starter} ]; then echo started; exit 0; fi
attach
cat refused >&2
exit 1
"""


def start(remote: Remote, unit: Unit, deadline: Deadline) -> str:
    """Start it, or find it: STARTED, RUNS, or OVER (it ran before, to whatever end). Raises `NotStarted`."""
    folder = shlex.quote(unit.folder)
    extra = dict(unit.files)
    if unit.once:
        extra |= {"begin": _BEGIN.format(folder=folder), "end": _END.format(folder=folder)}
    # Aside and renamed: the unit of another who starts the same may be reading them.
    files = "\n".join(
        f"printf %s {shlex.quote(text)} > {name}.$$; mv -f {name}.$$ {name}" for name, text in extra.items()
    )
    starter = secrets.token_hex(8)
    own = f"chown {shlex.quote(unit.user)} program.$$ work" if unit.user != "root" else ":"
    script = _START.format(
        unit=unit.unit,
        folder=folder,
        once="" if unit.once else "# ",
        files=files or ":",
        owner=own,
        starter=starter,
        run=shlex.join(unit.systemd_run(starter)),
    )
    try:
        try:
            said = remote.run(script, deadline, input=unit.program).stdout.split()
        except ConnectionLost:  # started or not: starting twice is starting once
            said = remote.run(script, deadline, input=unit.program).stdout.split()
    except RemoteFailed as failed:
        raise NotStarted(
            f"{unit.unit} did not start on {remote.name}",
            cause=failed.cause,
            hint=f"g5kdeploy ssh {remote.name}, then: journalctl -u {unit.unit}",
        ) from failed
    return said[-1]


def stop(remote: Remote, unit: Unit, deadline: Deadline) -> None:
    """End it and all its processes; nothing happens when it does not run."""
    remote.run(f"systemctl stop {unit.unit} 2>/dev/null || ! systemctl is-active --quiet {unit.unit}", deadline)
