"""The programs on the kernel's events, on the distribution's kernel: made to happen, and found in what the exporter served."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stock_kernel import Watched, version, watched

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]


@pytest.fixture
def seen(stock_kernel: dict[str, Any], request: pytest.FixtureRequest) -> Watched:
    """What the scenario saw that has the test's name."""
    return watched(stock_kernel, "node", request.node.originalname.removeprefix("test_"))


def test_statx(seen: Watched) -> None:
    assert seen.grown("statx_calls_total", cgroup="/sys/fs/cgroup/statx") >= 5
    assert 0 < seen.mean("statx_latency_seconds", cgroup="/sys/fs/cgroup/statx") < 60
    assert seen.grown("statx_lost_total") == 0


def test_syscalls(seen: Watched) -> None:
    made = [call for call in ("mkdir", "mkdirat") if seen.grown("syscalls_total", call=call) >= 100]
    assert len(made) == 1
    assert seen.grown("syscall_errors_total", call=made[0], error="EEXIST") >= 100
    assert 0 < seen.mean("syscall_latency_seconds", call=made[0]) < 60
    assert seen.grown("syscalls_total", call="getppid") == 0  # not on the list
    assert seen.grown("syscalls_lost_total") == 0


def test_runqueue(seen: Watched) -> None:
    assert seen.grown("context_switches_total", kind="involuntary") >= 20
    assert seen.grown("context_switches_total", kind="voluntary") > 0
    assert seen.grown("task_migrations_total") >= 1
    assert seen.grown("runqueue_latency_seconds_count") >= 20
    assert 0 < seen.mean("runqueue_latency_seconds") < 60
    assert seen.grown("runqueue_lost_total") == 0


def test_runqueue_length(seen: Watched) -> None:
    assert seen.grown("runqueue_length_count") > seen.grown("runqueue_length_bucket", le="1.0")
    assert seen.mean("runqueue_length") > 0


def test_offcpu(seen: Watched) -> None:
    assert seen.grown("offcpu_seconds_count", state="interruptible") >= 5
    assert seen.grown("offcpu_seconds_sum", state="interruptible") >= 0.5
    assert 0 < seen.mean("offcpu_seconds", state="uninterruptible") < 60
    assert seen.grown("offcpu_lost_total") == 0


def test_throttling(seen: Watched) -> None:
    assert seen.grown("cpu_throttled_seconds_count", cgroup="/sys/fs/cgroup/slow") >= 5
    assert 0 < seen.mean("cpu_throttled_seconds", cgroup="/sys/fs/cgroup/slow") < 60
    assert seen.grown("throttling_lost_total") == 0


def test_shrinkers(seen: Watched) -> None:
    assert seen.grown("shrinker_seconds_count") > 0
    assert 0 < seen.mean("shrinker_seconds", shrinker="super_cache_scan") < 60
    assert seen.grown("shrinker_objects_total", shrinker="super_cache_scan") > 0
    assert seen.grown("shrinkers_lost_total") == 0


def test_llc(seen: Watched) -> None:
    """QEMU's processors have no such counters, which is told; the same program on another event counts."""
    after = seen.notes["after"]
    assert after['g5k_bpf_program_loaded{config="llc"}'] == 1
    reasons = [name for name in after if name.startswith('g5k_bpf_failure_info{config="llc"')]
    assert any("this machine has no perf event type=0,config=3,frequency=99" in reason for reason in reasons), reasons
    clock = Watched(seen.notes["clock"])
    for event in ("references", "misses"):
        assert clock.grown(f"llc_{event}_total", cgroup="/sys/fs/cgroup/llc") > 0
    assert clock.grown("llc_lost_total") == 0


def test_memory(seen: Watched) -> None:
    assert seen.notes["status"] in {-9, 137}
    assert seen.grown("oom_kills_total", cgroup="/sys/fs/cgroup/hungry") == 1
    for kind in ("memcg", "compaction"):
        assert 0 < seen.mean("reclaim_seconds", kind=kind) < 60
    assert seen.grown("reclaimed_pages_total", kind="memcg") > 0
    assert seen.grown("memory_lost_total") == 0


def test_interrupts(seen: Watched) -> None:
    assert seen.grown("hardirqs_total") >= 10
    handled = [name for name in seen.notes["after"] if name.startswith("ebpf_exporter_hardirqs_total")]
    assert any('handler="virtio' in name and 'cpu="' in name for name in handled), handled
    assert 0 < seen.mean("hardirq_seconds") < 60
    assert 0 < seen.mean("softirq_seconds") < 60
    assert seen.grown("interrupts_lost_total") == 0


def test_contention(seen: Watched) -> None:
    assert seen.grown("futex_wait_seconds_count", result="timed_out") >= 1
    assert seen.grown("futex_wait_seconds_sum", result="timed_out") >= 0.4
    assert 0 < seen.mean("lock_wait_seconds") < 60
    assert seen.grown("contention_lost_total") == 0


def test_bpf(seen: Watched) -> None:
    assert seen.grown("bpf_calls_total", command="map_lookup_batch") > 0
    assert seen.grown("bpf_calls_total", command="task_fd_query") == 1
    assert seen.grown("bpf_call_errors_total", command="task_fd_query") == 1
    samples = seen.notes["after"]
    assert 0 < samples["ebpf_exporter_bpf_jit_bytes"] < samples["ebpf_exporter_bpf_jit_limit_bytes"]
    assert seen.grown("bpf_lost_total") == 0


def test_stored_cgroups(seen: Watched) -> None:
    """The exporter writes into the storage of the cgroups that match, where the kernel has such maps."""
    has_them = version(seen.notes["kernel"]) >= (6, 2)
    assert seen.notes["after"]['g5k_bpf_program_loaded{config="stored_cgroups"}'] == has_them
    assert (seen.grown("stored_cgroups_total", cgroup="/sys/fs/cgroup/marked") > 0) == has_them
    assert seen.grown("stored_cgroups_total", cgroup="/sys/fs/cgroup/other") == 0
    refused = 'g5k_bpf_events_lost_total{config="stored_cgroups",map="stored_cgroups",reason="refused"}'
    assert seen.notes["after"].get(refused, 0) == 0
