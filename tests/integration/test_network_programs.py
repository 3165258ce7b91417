"""The programs on the network, on whatever kernel this is, in network namespaces of their own.

What needs more than this kernel may allow (functions hooked directly, a packet scheduler that loses) is in tests/vm alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from g5kdeploy.base import files
from tests.support.network_seen import (
    Network,
    test_a_device_that_is_not_there_is_told_with_those_that_are,
    test_an_exporter_that_is_killed_leaves_no_xdp_program,
    test_how_connecting_ended,
    test_how_the_kernel_comes_to_its_packets,
    test_multicast_by_group,
    test_packets_that_are_dropped,
    test_round_trips_and_what_nobody_answered,
    test_verdicts_that_cannot_be_carried_out,
    test_what_is_lost_on_the_way_to_a_device_and_to_a_cpu,
    test_xdp_counts_and_drops_on_the_device_that_was_chosen,
)
from tests.support.stock_kernel import build_programs

__all__ = [
    "test_a_device_that_is_not_there_is_told_with_those_that_are",
    "test_an_exporter_that_is_killed_leaves_no_xdp_program",
    "test_how_connecting_ended",
    "test_how_the_kernel_comes_to_its_packets",
    "test_multicast_by_group",
    "test_packets_that_are_dropped",
    "test_round_trips_and_what_nobody_answered",
    "test_verdicts_that_cannot_be_carried_out",
    "test_what_is_lost_on_the_way_to_a_device_and_to_a_cpu",
    "test_xdp_counts_and_drops_on_the_device_that_was_chosen",
]

REPOSITORY = Path(__file__).parents[2]
GUEST = REPOSITORY / "tests" / "vm" / "guest"
SCENARIOS = {"network": ("xdp", "tcp", "drops", "multicast", "net_rx"), "frames": ("xdp_errors",)}
# Nothing of it is seen outside: namespaces for mounts and network, an empty /run for `ip netns`, a /sys of that network.
ALONE = """mount -t tmpfs none /run && mount -t sysfs none /sys && mount -t tracefs none /sys/kernel/tracing &&
ip link set lo up && exec "$@" """


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """From one run of all scenarios, also where several workers share the tests."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    folder = tmp_path_factory.getbasetemp().parent / f"network-{run}" if run else tmp_path_factory.mktemp("network")
    folder.mkdir(exist_ok=True)
    out = folder / "seen.json"
    with files.lock(folder / "lock", "the scenarios", wait=500):
        if not out.exists():
            make(folder, out)
    return Network(json.loads(out.read_text()), may_refuse=True)


def make(folder: Path, out: Path) -> None:
    """Run the scenarios; skips where this machine cannot."""
    alone = ["unshare", "-n", "-m", "sh", "-c", ALONE, "sh"]
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs unshare and ip")
    pair = ["ip", "link", "add", "near", "type", "veth", "peer", "name", "far"]
    tried = subprocess.run([*alone, *pair], capture_output=True, text=True, check=False, timeout=60)
    if tried.returncode:
        pytest.skip(f"needs network namespaces and veth devices: {tried.stderr.strip()}")
    build_programs(folder / "programs")
    found: dict[str, Any] = {}
    for group, scenarios in SCENARIOS.items():
        own = folder / f"{group}.json"
        places = [REPOSITORY, folder / "programs", Path(yaml.__file__).parents[1], own]
        words = [*alone, sys.executable, *map(str, [GUEST / f"{group}.py", *places]), *scenarios]
        subprocess.run(words, check=True, timeout=400)
        found |= json.loads(own.read_text())
    files.write_json(out, found)
