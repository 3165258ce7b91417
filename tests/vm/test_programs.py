"""The programs on a real kernel: exact counts, the mock in both modes, nothing left of an exporter that is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.qemu.machine import Machine
from g5kdeploy.qemu.spec import MachineSpec, Share
from tests.support.kernels import override_kernel
from tests.support.stock_kernel import watched

REPOSITORY = Path(__file__).parents[2]
SOURCES = (
    REPOSITORY / "composition" / "statx" / "workload" / "statx_bench.c",
    REPOSITORY / "composition" / "statx" / "workload" / "bystander.c",
    REPOSITORY / "tests" / "vm" / "guest" / "mock_cases.c",
)
EFAULT, EINVAL, ENOENT = 14, 22, 2

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened in a machine whose root is this one's, read only, and whose only process is our script."""
    kernel = override_kernel()
    if kernel is None:
        pytest.skip("needs ../shared, or scripts/test-kernel: a kernel with CONFIG_BPF_KPROBE_OVERRIDE")
    folder = tmp_path_factory.mktemp("programs")
    (folder / "out").mkdir()
    subprocess.run(["make", "--silent", "-C", str(REPOSITORY / "bpf")], check=True, timeout=300)
    for source in SOURCES:
        binary = folder / source.stem
        subprocess.run(["gcc", "-O2", "-Wall", "-static", "-o", str(binary), str(source)], check=True, timeout=300)
    root = "root=root rootfstype=9p rootflags=trans=virtio,version=9p2000.L,cache=loose,msize=262144 ro"
    script = REPOSITORY / "tests" / "vm" / "guest" / "programs.py"
    words = [script, REPOSITORY, folder, Path(yaml.__file__).parents[1]]
    machine = Machine(
        MachineSpec(
            "programs",
            folder / "machine",
            folder / "console",
            kernel,
            append=f"console=ttyS0 panic=-1 {root} init={sys.executable} -- {' '.join(map(str, words))}",
            shares=(Share(Path("/"), "root"), Share(folder / "out", "out", readonly=False)),
            extra=("-no-reboot",),
        )
    )
    deadline = Deadline.after(1700, "the machine that runs the programs")
    machine.start(deadline)
    try:
        while machine.alive():
            deadline.sleep(0.5, machine.console_text()[-500:])
    finally:
        machine.stop()
    result = folder / "out" / "result.json"
    assert result.exists(), machine.console_text()[-3000:]
    found: dict[str, Any] = json.loads(result.read_text())
    assert "error" not in found, found["error"]
    return found


@pytest.mark.parametrize("who", ["everybody", "one"])
def test_the_calls_of_a_cgroup_are_counted_exactly(seen: dict[str, Any], who: str) -> None:
    run = seen["counting"][who]
    samples = run["samples"]
    own = f'cgroup="{run["said"]["cgroup"]}"'
    assert samples[f"ebpf_exporter_statx_calls_total{{{own}}}"] == 5000
    assert samples[f"ebpf_exporter_statx_latency_seconds_count{{{own}}}"] == 5000
    assert samples[f'ebpf_exporter_statx_latency_seconds_bucket{{{own},le="+Inf"}}'] == 5000
    assert 0 < samples[f"ebpf_exporter_statx_latency_seconds_sum{{{own}}}"] < run["said"]["seconds"]
    others = samples.get('ebpf_exporter_statx_calls_total{cgroup="/sys/fs/cgroup"}', 0)
    assert run["bystander"] > 0
    assert others >= run["bystander"] if who == "everybody" else others == 0
    assert all(samples[name] == 0 for name in samples if name.startswith("ebpf_exporter_statx_lost_total"))
    assert run["status"] == 0


RUNS = [
    *(("override_kernel", f"{mode}{order}") for mode in ("override", "rewrite") for order in ("", "_reversed")),
    *((kernel, f"rewrite{order}") for kernel in ("own_kernel", "newer_kernel") for order in ("", "_reversed")),
]
"""Which kernel, how the mock works there, and whether everything is attached in the opposite order."""


@pytest.fixture(params=RUNS, ids="-".join)
def mocked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The mock through all its cases: on the kernel that lets it override, and on the distribution's two."""
    kernel, name = request.param
    if kernel == "override_kernel":
        notes: dict[str, Any] = request.getfixturevalue("seen")[name]
    else:
        notes = watched(request.getfixturevalue(kernel), "mock", name).notes
    return {"name": name} | notes


def test_the_mock_answers_for_its_path_and_for_nothing_else(mocked: dict[str, Any]) -> None:
    cases, true = mocked["cases"], mocked["true"]
    for name in ("mocked", "untouched_buffer", "cold_path", "copy_on_write"):
        assert cases[name] == [0, 0, 0], name
    assert cases["other"][:2] == [0, 5] and abs(cases["other"][2] - true) < 60
    assert cases["other_spelling"] == [0, 5, true]
    assert cases["longer"][0] == ENOENT
    assert cases["null_buffer"][0] == EFAULT and cases["null_path"][0] == EFAULT
    assert {cases[name][0] for name in ("bad_flags", "both_sync_flags", "bad_mask")} == {EINVAL}


def test_the_mock_counts_every_call(mocked: dict[str, Any]) -> None:
    after = mocked["after"]
    counts = {
        name: after[f'ebpf_exporter_statx_mock_total{{event="{name}"}}'] for name in ("calls", "matched", "mocked")
    }
    assert counts == {"calls": 112, "matched": 108, "mocked": 104}
    assert after['ebpf_exporter_statx_mock_total{event="kernel_error"}'] == 4
    assert after['ebpf_exporter_statx_mock_total{event="lost"}'] == 0
    assert after["ebpf_exporter_statx_mock_latency_seconds_count"] == 112
    assert after['ebpf_exporter_statx_mock_total{event="path_fail"}'] >= 1
    word = "override" if mocked["name"].startswith("override") else "exit_rewrite"
    assert after[f'g5k_bpf_mock_mode{{config="statx_mock",mode="{word}"}}'] == 1
    assert after['g5k_bpf_mock_mode{config="statx_mock",mode="off"}'] == 0


def test_calls_that_are_answered_are_counted_by_others_too(mocked: dict[str, Any]) -> None:
    """By the other program, in whichever order they were attached: 100 of 100, and the 12 before them."""
    root = '{cgroup="/sys/fs/cgroup"}'
    for name in (f"ebpf_exporter_statx_calls_total{root}", f"ebpf_exporter_statx_latency_seconds_count{root}"):
        assert mocked["after"][name] - mocked["before"].get(name, 0) >= 112, name


def test_only_the_override_answers_for_a_file_that_is_not_there(mocked: dict[str, Any]) -> None:
    if mocked["name"].startswith("override"):
        assert mocked["absent"].strip() == "0"
    else:
        assert "No such file" in mocked["absent"]


def test_nothing_stays_when_the_exporter_is_gone(mocked: dict[str, Any]) -> None:
    """Neither after an order to end nor after a kill: no answer of ours, no program in the kernel."""
    assert mocked["status"] in {0, -9}
    assert mocked["true_again"] == mocked["true"]
    assert mocked["programs"] >= 4 and mocked["left"] == 0


def works(found: dict[str, Any], key: str) -> dict[str, bool]:
    return {one["name"]: one["works"] for one in found[key]}


def test_what_the_override_kernel_can_do(seen: dict[str, Any]) -> None:
    found = seen["kernel_probe"]
    kinds, programs = works(found, "kinds"), works(found, "programs")
    for name in ("tp", "raw_tp", "tp_btf", "kprobe", "fentry", "fexit", "override", "probe_write_user", "xdp"):
        assert kinds[name], found["kinds"]
    assert programs["statx"] and programs["statx_mock_override"] and programs["statx_mock_rewrite"], found["programs"]
    assert found["config"]["BPF_KPROBE_OVERRIDE"] == "y" and found["btf"]


def test_what_the_distributions_kernels_can_do(stock_kernel: dict[str, Any]) -> None:
    found = watched(stock_kernel, "mock", "kernel").notes
    kinds = works(found, "kinds")
    for name in ("tp", "raw_tp", "tp_btf", "kprobe", "fentry", "fexit", "lsm", "probe_write_user", "xdp"):
        assert kinds[name], found["kinds"]
    assert not kinds["override"]
    if found["kernel"].startswith("6.1."):
        assert not kinds["kprobe.multi"] and not kinds["fmod_ret"]
        assert "CONFIG_FPROBE" in next(one["why"] for one in found["kinds"] if one["name"] == "kprobe.multi")
    programs = works(found, "programs")
    assert programs["statx"] and programs["statx_mock_rewrite"] and not programs["statx_mock_override"]
