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


def test_each_phase_as_a_command_of_its_own(place: Place) -> None:
    """Only the first one names the testbed: the others go on with their run's."""
    place.write(kernel={"params": ["mitigations=off"]}, cache={"folder": "mine/cache"})
    first = place.call(*place.command("build"))
    assert first.returncode == 0, first.stderr
    for phase in ORDER[1:]:
        done = place.call(phase, str(place.experiment))
        assert done.returncode == 0, done.stderr
    assert len(place.folders) == 1
    document = place.document()
    assert [document["phases"][name]["state"] for name in ORDER] == ["done"] * len(ORDER)
    for node in place.nodes.values():
        assert (node.folder / "append").read_text().startswith("quiet mitigations=off init=")
    assert list((place.public / "mine" / "cache").glob("*.narinfo"))
    assert not (place.public / "g5kdeploy" / "cache").exists()
    assert place.submissions() == 1
    assert list(place.held()) == []


def test_roles_on_two_sites_pull_from_the_cache_of_one(two_places: Place) -> None:
    """One deployment a site, and what was pushed to the experiment's site is on the nodes of both."""
    place = two_places
    place.write(site="lab", roles={"worker": {"nodes": 1}, "other": {"nodes": 1, "site": "west"}})
    first = place.call(*place.command("build"))
    assert first.returncode == 0, first.stderr
    for phase in ("push", "reserve", "deploy", "check", "release"):
        done = place.call(phase, str(place.experiment))
        assert done.returncode == 0, done.stderr
    document = place.document()
    assert [job["site"] for job in document["jobs"]] == ["lab", "west"]
    nodes = {node["role"]: name for name, node in document["nodes"].items()}
    assert nodes == {"worker": "vmlab-1.lab.grid5000.fr", "other": "vmwest-1.west.grid5000.fr"}
    assert {node["facts"]["current_system"] for node in document["nodes"].values()} == {place.toplevel}
    asked = [path for method, path in place.lab.faults.asked if method == "POST" and path.endswith("/deployments")]
    assert sorted(path.split("/")[-2] for path in asked) == ["lab", "west"]
    assert list(place.held()) == []


def test_a_benchmark_is_attempted_anew_on_nodes_that_were_kept(place: Place) -> None:
    good = {node: (node.folder / "workload").read_text() for node in place.nodes.values()}
    for node in good:
        (node.folder / "workload").write_text("echo 7 > /node/calls; exit 1\n")
    assert place.run("--keep").returncode == 1
    for node, text in good.items():
        (node.folder / "calls").write_text("7")  # also where the failure of the other one came first
        (node.folder / "workload").write_text(text.replace(f"echo {CALLS} >", f"echo {CALLS + 7} >"))
    done = place.run("--keep")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [one["increase"] for one in told["counters"]] == [CALLS] * 2, "the attempts are not counted together"
    assert place.workloads() == [1, 1]
    again = place.call("bench", str(place.experiment), "--again")
    assert again.returncode == 0, again.stderr
    assert place.workloads() == [2, 2]
    # Other kernel parameters: the nodes are installed and booted anew, in the same job
    place.write(kernel={"params": ["nosmt"]})
    for phase in ("build", "push", "deploy"):
        done = place.call(phase, str(place.experiment))
        assert done.returncode == 0, done.stderr
    for node in place.nodes.values():
        assert (node.folder / "append").read_text().startswith("quiet nosmt init=")
    done = place.call("bench", str(place.experiment))  # and measured anew
    assert done.returncode == 0, done.stderr
    assert place.workloads() == [3, 3]
    assert place.document()["benchmark"]["attempt"] == 4
    assert place.call("release", str(place.experiment)).returncode == 0
    assert place.submissions() == 1
    assert list(place.held()) == []


def test_a_benchmark_of_another_role_is_another_attempt(place: Place) -> None:
    roles = {"worker": {"nodes": 1}, "other": {"nodes": 1}}
    bench = {"command": "sh /node/workload; echo out > /node/out", "scrape_interval": 0.2, "files": ["/node/out"]}
    place.write(roles=roles, benchmark={**bench, "role": "worker"})
    done = place.run("--keep")
    assert done.returncode == 0, done.stderr
    second, first = place.nodes  # the file has its roles in the order of the alphabet
    assert place.workloads() == [0, 1]
    put_aside = place.folders[-1].parent / "nodes" / first / "samples-1"
    put_aside.mkdir()  # by one who was killed right after it, before the attempt was noted as over
    (put_aside / "kept").touch()
    place.write(roles=roles, benchmark={**bench, "role": "other"})
    done = place.run("--keep")
    assert done.returncode == 0, done.stderr
    assert place.workloads() == [1, 1]
    assert (put_aside / "kept").exists() and list(put_aside.with_name("samples-1-again").glob("*.gz"))
    told = json.loads(done.stdout)
    assert list(told["workload"]) == [second]
    assert place.document()["benchmark"]["attempt"] == 2
    folder = place.folders[-1].parent / "nodes"
    assert (folder / first / "samples-1").is_dir() and (folder / first / "workload-1.log").is_file()
    assert (folder / first / "files-1").is_dir() and not (folder / first / "files").exists()
    assert (folder / second / "workload.log").is_file() and (folder / second / "files").is_dir()
    done = place.run()  # nothing was changed: what is over is not run again
    assert done.returncode == 0, done.stderr
    assert place.workloads() == [1, 1]


def test_roles_that_changed_on_the_way(place: Place) -> None:
    both = {"worker": {"nodes": 1}, "other": {"nodes": 1}}
    assert place.run("--keep", "--until", "build").returncode == 0
    place.write(roles=both)  # before anything was reserved: the new one is built, too
    done = place.run("--keep", "--until", "reserve")
    assert done.returncode == 0, done.stderr
    assert sorted(place.document()["closures"]) == ["other", "worker"]
    for roles in ({"worker": {"nodes": 2}}, {**both, "other": {"nodes": 2}}):
        place.write(roles=roles)
        done = place.run("--keep")
        assert done.returncode == 2, done.stderr
        assert "holds nodes for other roles than its file has now" in done.stderr
        assert "on lab it holds 1 × other, 1 × worker; experiment.yaml says " in done.stderr
    assert place.call("release", str(place.experiment), "--run", "").returncode == 2
    assert len(place.held()) == 1
    place.write(roles=both)
    assert place.call("release", str(place.experiment)).returncode == 0
    assert list(place.held()) == []
