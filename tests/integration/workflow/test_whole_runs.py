"""Whole runs by the real command, against the lab's API and nodes that are namespaces: what goes well."""

from __future__ import annotations

import json

from tests.integration.workflow.place import CALLS, RELEASE, Place

ORDER = ["build", "vmtest", "push", "reserve", "deploy", "check", "bench", "collect", "report", "release"]


def test_a_run_ends_well_and_the_next_begins_anew(place: Place) -> None:
    done = place.run()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(phase["phase"], phase["state"]) for phase in told["phases"]] == [(name, "done") for name in ORDER]
    assert [node["after"] for node in told["nodes"]] == [RELEASE] * 2
    assert {node["system"] for node in told["nodes"]} == {place.toplevel}
    assert {node: said["calls"] for node, said in told["workload"].items()} == dict.fromkeys(place.nodes, CALLS)
    assert {one["node"]: one["increase"] for one in told["counters"]} == dict.fromkeys(place.nodes, CALLS)
    assert told["warnings"] == []
    assert place.held() == []
    for node in place.nodes.values():
        (node.folder / "calls").write_text("0")
    again = place.run()
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["run"] != told["run"]
    assert place.workloads() == [2, 2]
    assert place.held() == []
