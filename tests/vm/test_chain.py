"""The main job by its two commands, on real nodes: from the composition to a histogram with the exact count.

And by the other two ways onto a node: from the standard environment, without a deployment, and as an image of kadeploy's,
in a VLAN.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

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


SCRIPT = """\
start_all()
exporter.wait_for_unit("g5kdeploy-exporter.service")
exporter.succeed("getent hosts exporter1")
assert "handing over to systemd" in exporter.get_console_log()
"""
LEFT_OUT = "--phases=build,push,reserve,deploy,check,bench,collect,report,release"
"""Not again on local machines: the closure is the one that was tested there."""


def one_node(experiment: Path, name: str, **more: Any) -> Path:
    """The same experiment with the role exporter alone, another way onto its node, and little to check."""
    folder = experiment.parent.with_name(name)
    folder.mkdir()
    told = yaml.safe_load(experiment.read_text())
    told["roles"] = {"exporter": {"nodes": 1}}
    script = folder / "alone.py"  # not in the composition: that would be another one
    script.write_text(SCRIPT)
    told |= {"name": name, "composition": str(experiment.parent), "check": {"script": str(script)}, **more}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(told))
    return folder / "experiment.yaml"


@pytest.fixture(scope="module")
def ways(summary: dict[str, Any], lab: Lab, experiment: Path) -> dict[str, dict[str, Any]]:
    """The summaries of two runs at the same time, each on one of the nodes."""
    files = {
        "standing": one_node(experiment, "standing", job_types=[]),
        "installed": one_node(experiment, "installed", flavour="g5k-image", vlan="routed"),
    }

    for file in files.values():  # one after the other; the runs go on with what is built
        done = call(lab.home, "build", str(file), "--testbed", "lab")
        assert done.returncode == 0, tail(done.stderr, 40)

    def go(name: str) -> dict[str, Any]:
        words = ("run", str(files[name]), "--testbed", "lab", LEFT_OUT, "-o", "json")
        done = call(lab.home, *words, seconds=1200)
        assert done.returncode == 0, tail(done.stderr, 60) + "".join(lab.told(node) for node in ("vm-1", "vm-2"))
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(files, pool.map(go, files), strict=True))


@pytest.mark.parametrize("way", ["standing", "installed"])
def test_the_same_closure_counts_exactly_whichever_way_it_came(
    ways: dict[str, dict[str, Any]], way: str, summary: dict[str, Any]
) -> None:
    told = ways[way]
    assert told["warnings"] == [] and {phase["state"] for phase in told["phases"]} == {"done"}
    (node,) = told["nodes"]
    (same,) = (one for one in summary["nodes"] if one["role"] == "exporter")
    assert (node["after"], node["system"]) == (same["after"], same["system"])
    assert {counter["metric"]: counter["increase"] for counter in told["counters"]}[
        "ebpf_exporter_statx_calls_total"
    ] == CALLS
    folder = Path(told["folder"]) / "nodes" / node["name"]
    with gzip.open(folder / "journal.export.gz", "rt", errors="replace") as journal:
        assert "programs attached" in journal.read()
    assert node["after"] in (folder / "console.log").read_text(errors="replace")


def test_a_node_left_its_standard_environment_for_the_closure(ways: dict[str, dict[str, Any]]) -> None:
    (node,) = ways["standing"]["nodes"]
    facts = json.loads((Path(ways["standing"]["folder"]) / "run.json").read_text())["nodes"][node["name"]]["facts"]
    assert facts["environment"] == "the standard environment"
    assert node["before"] != node["after"] and facts["boot_id"] != facts["boot_id_before"]


def test_such_nodes_get_the_standard_environment_anew(ways: dict[str, dict[str, Any]], lab: Lab) -> None:
    """Root was there, or kadeploy: nothing of it is left for the next job but the scratch partition."""
    for name, told in ways.items():
        (node,) = told["nodes"]
        place = lab.home / "state" / "lab" / "nodes" / node["name"].partition(".")[0]
        assert not (place / "node.json").exists(), name
        assert lab.ssh("flab", f"kapower3 --status -m {node['name']}").stdout == f"{node['name']}: off\n"


def test_after_the_lab_nothing_is_on_record(summary: dict[str, Any], lab: Lab) -> None:
    """Last: the lab is stopped."""
    assert call(lab.home, "lab", "stop").returncode == 0
    done = call(lab.home, "status", "--mine")
    assert done.returncode == 0, done.stderr
    assert "nothing is on record" in done.stderr
