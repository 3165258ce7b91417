"""The main job by its two commands, on real nodes: from the composition to a histogram with the exact count."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.base.text import tail
from g5kdeploy.lab.site.namespace import missing
from tests.support.lab import ROOT, Lab, call

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(os.geteuid() != 0 or bool(missing(True)), reason=f"needs root and namespaces: {missing(True)}"),
]

CALLS = 100_000


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("chain")
    try:
        yield Lab.start(home)
    finally:
        call(home, "lab", "stop")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's composition, in a folder of its own: its runs are not left in the checkout."""
    folder = tmp_path_factory.mktemp("statx") / "statx"
    shutil.copytree(ROOT / "composition" / "statx", folder, ignore=shutil.ignore_patterns("runs"))
    return folder / "experiment.yaml"


@pytest.fixture(scope="module")
def summary(lab: Lab, experiment: Path) -> dict[str, Any]:
    done = call(lab.home, "run", str(experiment), "--testbed", "lab", "-o", "json", seconds=2000)
    assert done.returncode == 0, tail(done.stderr, 60) + lab.console("vm-1")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_every_phase_was_done(summary: dict[str, Any]) -> None:
    order = ["build", "vmtest", "push", "reserve", "deploy", "check", "bench", "collect", "report", "release"]
    assert [(phase["phase"], phase["state"]) for phase in summary["phases"]] == [(name, "done") for name in order]
    assert summary["warnings"] == []


def test_each_node_left_its_kernel_for_the_closures(summary: dict[str, Any]) -> None:
    assert {node["role"] for node in summary["nodes"]} == {"exporter", "collector"}
    for node in summary["nodes"]:
        assert node["before"] and node["after"] and node["before"] != node["after"]
        assert node["system"].startswith("/nix/store/")


def test_the_collected_count_is_the_workloads_own(summary: dict[str, Any]) -> None:
    """A bystander calls statx all the time on the same node."""
    (said,) = summary["workload"].values()
    assert said["calls"] == CALLS
    grown = {counter["metric"]: counter["increase"] for counter in summary["counters"]}
    assert grown["ebpf_exporter_statx_calls_total"] == CALLS
    (histogram,) = summary["histograms"]
    assert histogram["metric"] == "ebpf_exporter_statx_latency_seconds"
    assert histogram["count"] == CALLS
    assert sum(count for _, _, count in histogram["rows"]) == CALLS


def test_the_run_folder_is_complete(summary: dict[str, Any]) -> None:
    folder = Path(summary["folder"])
    told = json.loads((folder / "run.json").read_text())
    assert told["released"] is True
    assert set(told["closures"]) == {"exporter", "collector"}
    assert all(closure["nar_hash"].startswith("sha256") for closure in told["closures"].values())
    page = (folder / "report.html").read_text()
    assert "<svg" in page and "ebpf_exporter_statx_latency_seconds" in page
    for node in summary["nodes"]:
        for name in ("journal.export.gz", "console.log"):
            assert (folder / "nodes" / node["name"] / name).stat().st_size > 0
    assert list((folder / "metrics").glob("*.parquet"))
    assert (folder / "sbom.cdx.json").exists() and (folder / "ro-crate-metadata.json").exists()
    assert list((folder / "nodes").glob("*/files/var/tmp/statx_bench.json"))


def test_nothing_is_held_afterwards(summary: dict[str, Any], lab: Lab) -> None:
    done = call(lab.home, "status", "--mine", "--testbed", "lab", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"] == []


def test_a_second_run_reuses_what_is_built_and_checked(summary: dict[str, Any], lab: Lab, experiment: Path) -> None:
    words = ("run", str(experiment), "--testbed", "lab", "--until", "vmtest", "--keep", "-o", "json")
    done = call(lab.home, *words, seconds=600)
    assert done.returncode == 0, tail(done.stderr, 40)
    again = json.loads(done.stdout)
    assert again["run"] != summary["run"]
    assert "unchanged" in done.stderr
    assert "reused" in done.stderr
    assert call(lab.home, "release", str(experiment), "--testbed", "lab").returncode == 0


def test_after_the_lab_nothing_is_on_record(summary: dict[str, Any], lab: Lab) -> None:
    """Last: the lab is stopped."""
    assert call(lab.home, "lab", "stop").returncode == 0
    done = call(lab.home, "status", "--mine")
    assert done.returncode == 0, done.stderr
    assert "nothing is on record" in done.stderr
