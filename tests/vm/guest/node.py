"""Makes events of the kernel happen, and notes what the exporter served before and after them.

node.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from exporting import PATIENCE, Group, run

GROUP = Group()
CGROUPS = Path("/sys/fs/cgroup")


def in_cgroup(name: str, command: str) -> int:
    """The exit status of a shell command that runs in a cgroup."""
    script = f"echo $$ > {CGROUPS / name}/cgroup.procs; {command}"
    return subprocess.run(["sh", "-c", script], check=False, timeout=PATIENCE, stdout=subprocess.DEVNULL).returncode


def python(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script])


@GROUP.scenario
def statx() -> dict[str, Any]:
    """Five calls of processes in a cgroup of their own."""
    (CGROUPS / "statx").mkdir()
    with GROUP.watched() as seen:
        in_cgroup("statx", "for i in 1 2 3 4 5; do stat -c %s /; done")
    return seen


@GROUP.scenario
def syscalls() -> dict[str, Any]:
    """100 folders that are there already, and calls that are not on the list."""
    script = """
import os
for i in range(100):
    os.getppid()
    try:
        os.mkdir("/run")
    except FileExistsError:
        pass
"""
    with GROUP.watched() as seen:
        assert python(script).wait(PATIENCE) == 0
    return seen


@GROUP.scenario
def runqueue() -> dict[str, Any]:
    """More processes than CPUs, all busy."""
    with GROUP.watched_until('context_switches_total{kind="involuntary"}', 20) as (seen, enough):
        busy = [python("while True: pass") for _ in range(4)]
        while not enough():
            pass
        for process in busy:
            process.kill()
            process.wait(PATIENCE)
    return seen


@GROUP.scenario
def memory() -> dict[str, Any]:
    """A process that asks for more than its cgroup may have."""
    (CGROUPS / "cgroup.subtree_control").write_text("+memory")
    (CGROUPS / "hungry").mkdir()
    (CGROUPS / "hungry" / "memory.max").write_text(str(24 << 20))
    with GROUP.watched() as seen:
        seen["status"] = in_cgroup("hungry", "exec tail /dev/zero")
    return seen


@GROUP.scenario
def interrupts() -> dict[str, Any]:
    """Reads that the disk answers by an interrupt."""
    with GROUP.watched() as seen:
        run("dd", "if=/dev/vda", "of=/dev/null", "bs=4096", "count=50", "iflag=direct")
    return seen


@GROUP.scenario
def contention() -> dict[str, Any]:
    """A lock that is not let go in time; and processes that push into the same pipe."""
    locked = "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=0.5)"
    with GROUP.watched_until("lock_wait_seconds_count", 1) as (seen, enough):
        assert python(locked).wait(PATIENCE) == 0
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
            writers = [subprocess.Popen(["cat", "/dev/zero"], stdout=reader.stdin) for _ in range(4)]
            while not enough():
                pass
            for process in (*writers, reader):
                process.kill()
                process.wait(PATIENCE)
    return seen


@GROUP.scenario
def bpf() -> dict[str, Any]:
    """The exporter itself, which reads its maps; and one call that makes no sense."""
    script = "import ctypes; ctypes.CDLL(None).syscall(321, 20, None, 0)"  # bpf(BPF_TASK_FD_QUERY) without attributes
    with GROUP.watched() as seen:
        assert python(script).wait(PATIENCE) == 0
    return seen


if __name__ == "__main__":
    GROUP.run()
