"""The programs on the network, on whatever kernel this is, in network namespaces of their own.

What needs more than this kernel may allow (functions hooked by fentry, a packet scheduler that loses) is in tests/vm.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
GUEST = REPOSITORY / "tests" / "vm" / "guest" / "network.py"
# Nothing of it is seen outside: namespaces for mounts and network, an empty /run for `ip netns`, a /sys of that network.
ALONE = 'mount -t tmpfs none /run && mount -t sysfs none /sys && mount -t tracefs none /sys/kernel/tracing && exec "$@"'
PREFIX = "ebpf_exporter_"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("network")
    subprocess.run(["make", "--silent", "-C", str(REPOSITORY / "bpf"), f"BUILD={folder}"], check=True, timeout=300)
    alone = ["unshare", "-n", "-m", "sh", "-c", ALONE, "sh"]
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs unshare and ip")
    pair = ["ip", "link", "add", "near", "type", "veth", "peer", "name", "far"]
    tried = subprocess.run([*alone, *pair], capture_output=True, text=True, check=False, timeout=60)
    if tried.returncode:
        pytest.skip(f"needs network namespaces and veth devices: {tried.stderr.strip()}")
    out = folder / "seen.json"
    packages = Path(yaml.__file__).parents[1]
    words = [sys.executable, GUEST, REPOSITORY, folder, packages, out, "xdp"]
    subprocess.run([*alone, *map(str, words)], check=True, timeout=900)
    found: dict[str, Any] = json.loads(out.read_text())
    assert "error" not in found, found["error"]
    return found


def skip_unless_loaded(samples: dict[str, float], name: str) -> None:
    if not samples.get(f'g5k_bpf_program_loaded{{config="{name}"}}'):
        reasons = [sample for sample in samples if sample.startswith(f'g5k_bpf_failure_info{{config="{name}"')]
        pytest.skip(f"this kernel does not take the program: {reasons}")


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_xdp_counts_and_drops_on_the_device_that_was_chosen(seen: dict[str, Any], mode: str) -> None:
    run = seen["xdp"][mode]
    samples = run["samples"]
    skip_unless_loaded(samples, "xdp")
    assert samples[f'g5k_bpf_xdp_info{{config="xdp",device="near",mode="{mode}",program="xdp_count"}}'] == 1
    frame = 14 + 20 + 8 + 100
    group = '{device="near",group="239.77.1.2"}'
    assert samples[f"{PREFIX}xdp_group_packets_total{group}"] == 60
    assert samples[f"{PREFIX}xdp_group_bytes_total{group}"] == 60 * frame
    assert samples[f'{PREFIX}xdp_packets_total{{action="drop"}}'] == 30
    assert samples[f'{PREFIX}xdp_bytes_total{{action="drop"}}'] == 30 * frame
    assert samples[f'{PREFIX}xdp_packets_total{{action="pass"}}'] >= 60
    assert samples[f'{PREFIX}xdp_lost_total{{what="group"}}'] == 0


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_an_exporter_that_is_killed_leaves_no_xdp_program(seen: dict[str, Any], mode: str) -> None:
    run = seen["xdp"][mode]
    skip_unless_loaded(run["samples"], "xdp")
    assert run["device"]["prog"]["name"] == "xdp_count"
    assert run["status"] == -9
    assert run["device_later"] == {}


def test_a_device_that_is_not_there_is_told_with_those_that_are(seen: dict[str, Any]) -> None:
    absent = seen["xdp"]["absent"]
    skip_unless_loaded(absent["samples"], "xdp")
    assert "there is no network device nowhere; there are: lo, near" in absent["log"]
    assert not [sample for sample in absent["samples"] if sample.startswith("g5k_bpf_xdp_info{")]
