"""Makes events of the kernel happen, and notes what the exporter served before and after them.

node.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exporting import PATIENCE, Group, exporting, run

GROUP = Group()
CGROUPS = Path("/sys/fs/cgroup")


def in_cgroup(name: str, command: str) -> int:
    """The exit status of a shell command that runs in a cgroup."""
    script = f"echo $$ > {CGROUPS / name}/cgroup.procs; {command}"
    return subprocess.run(["sh", "-c", script], check=False, timeout=PATIENCE, stdout=subprocess.DEVNULL).returncode


def python(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script])


@contextlib.contextmanager
def busy(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that do nothing but run."""
    processes = [python("while True: pass") for _ in range(count)]
    yield processes
    for process in processes:
        process.kill()
        process.wait(PATIENCE)


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
    """More processes than CPUs, all busy; and one that goes from CPU to CPU."""
    moves = "import os; [os.sched_setaffinity(0, {cpu}) for cpu in (0, 1)]"
    with GROUP.watched_until('context_switches_total{kind="involuntary"}', 20) as (seen, enough), busy(4):
        assert python(moves).wait(PATIENCE) == 0
        while not enough():
            pass
    return seen


@GROUP.scenario
def runqueue_length() -> dict[str, Any]:
    """More busy processes than CPUs, until a CPU was looked at that had more than one to run."""

    def longer(samples: dict[str, float]) -> float:
        every, short = (samples[f"ebpf_exporter_runqueue_length_{end}"] for end in ("count", 'bucket{le="1.0"}'))
        return every - short

    end = time.monotonic() + PATIENCE
    with GROUP.watched() as seen, busy(4):
        while longer(GROUP.samples()) <= longer(seen["before"]) and time.monotonic() < end:
            pass
    return seen


@GROUP.scenario
def offcpu() -> dict[str, Any]:
    """A process that sleeps five times for a tenth of a second, and one that waits for the disk."""
    script = "import time\nfor _ in range(5): time.sleep(0.1)"
    with GROUP.watched() as seen:
        assert python(script).wait(PATIENCE) == 0
        run("dd", "if=/dev/vda", "of=/dev/null", "bs=4096", "count=50", "iflag=direct")
    return seen


@GROUP.scenario
def throttling() -> dict[str, Any]:
    """A busy process in a cgroup that may run for 20 ms of each 100."""
    (CGROUPS / "cgroup.subtree_control").write_text("+cpu")
    (CGROUPS / "slow").mkdir()
    (CGROUPS / "slow" / "cpu.max").write_text("20000 100000")
    with GROUP.watched_until("cpu_throttled_seconds_count", 5) as (seen, enough), busy(1) as (process,):
        (CGROUPS / "slow" / "cgroup.procs").write_text(str(process.pid))
        while not enough():
            pass
    return seen


@GROUP.scenario
def shrinkers() -> dict[str, Any]:
    """The kernel is told to let go of what it can: names of files that were looked for, among others."""
    for number in range(500):
        assert not Path(f"/absent{number}").exists()
    with GROUP.watched() as seen:
        Path("/proc/sys/vm/drop_caches").write_text("2")
    return seen


@GROUP.scenario
def llc() -> dict[str, Any]:
    """No processor of QEMU's has such counters. The same program on the kernel's clock, to see it count."""
    with GROUP.watched() as seen:
        pass
    (CGROUPS / "llc").mkdir()
    with exporting("llc_clock") as exporter, busy(1) as (process,):
        (CGROUPS / "llc" / "cgroup.procs").write_text(str(process.pid))
        wanted = 'ebpf_exporter_llc_misses_total{cgroup="/sys/fs/cgroup/llc"}'
        seen["clock"] = {"before": exporter.samples(), "after": exporter.until(wanted, 1e8)}
    return seen


@GROUP.scenario
def memory() -> dict[str, Any]:
    """A process that asks for more than its cgroup may have, one that reads more; and pages that are moved together."""
    (CGROUPS / "cgroup.subtree_control").write_text("+memory")
    (CGROUPS / "hungry").mkdir()
    (CGROUPS / "hungry" / "memory.max").write_text(str(24 << 20))
    with GROUP.watched() as seen:
        assert in_cgroup("hungry", "dd if=/dev/vdb of=/dev/null bs=1M count=48") == 0
        seen["status"] = in_cgroup("hungry", "exec tail /dev/zero")
        Path("/proc/sys/vm/compact_memory").write_text("1")
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


@GROUP.scenario
def stored_cgroups() -> dict[str, Any]:
    """Processes in two cgroups, until the one that the program is told of is seen: not at all where the kernel has no such maps."""
    for name in ("marked", "other"):
        (CGROUPS / name).mkdir()
    with GROUP.watched_until("stored_cgroups_total", 1) as (seen, enough):
        seen["kernel"] = os.uname().release
        loaded = seen["before"]['g5k_bpf_program_loaded{config="stored_cgroups"}']
        while loaded and not enough():
            for name in ("other", "marked"):
                in_cgroup(name, "stat /")
    return seen


if __name__ == "__main__":
    GROUP.run()
