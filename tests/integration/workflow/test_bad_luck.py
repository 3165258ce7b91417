"""What goes wrong with sites, nodes, caches and workloads: exit code and words tell it, and nothing stays held."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from g5kdeploy.collect.units import BASE
from tests.integration.workflow.place import CALLS, Place


def told(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, f"{done.returncode}: {done.stderr}"
    for word in words:
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def nothing_left(place: Place) -> None:
    assert list(place.held()) == []
    assert place.document()["released"] is True


# --- the site's API


def test_an_api_that_stumbles_makes_no_second_job(place: Place) -> None:
    faults = place.lab.faults
    faults.answer(503, path="/jobs", method="GET", times=2, retry_after=0)
    faults.answer(502, path="/sites/lab", method="GET")
    faults.garbage(path="/clusters", method="GET")
    faults.lose_answer(path="/jobs$")
    faults.answer(500, path=r"/jobs/\d+$", method="GET")
    faults.garbage(path="/deployments/", method="GET")
    faults.answer(503, path=r"/jobs/\d+$", method="DELETE", retry_after=0)
    done = place.run(constants={"g5kdeploy.testbed.waiting._OUTAGE": 0.3, "g5kdeploy.testbed.kadeploy._OUTAGE": 0.3})
    told(done, 0)
    assert place.submissions() == 1
    assert place.workloads() == [1, 1]
    nothing_left(place)
    events = [json.loads(line) for line in (place.folders[-1].parent / "events.jsonl").read_text().splitlines()]
    asked_again = {event["phase"] for event in events if event["step"] == "API"}
    assert {"reserve", "deploy", "release"} <= asked_again  # each under the phase in which it was


def test_an_api_that_is_down(place: Place) -> None:
    place.lab.down()
    told(place.run("--from", "reserve"), 1, place.lab.url)
    assert place.document()["released"] is True


def test_an_api_that_is_down_when_the_nodes_are_let_go(place: Place) -> None:
    for node in place.nodes.values():
        (node.folder / "workload").write_text("exit 3\n")
    process = place.begin(stall="release:before")
    place.until(place.mark.exists, "the release", process)
    place.lab.down()
    process.send_signal(signal.SIGTERM)
    told(place.end(process), 143, "the nodes may still be held")
    place.lab.up()
    told(place.call(*place.command("release")), 0)
    nothing_left(place)


def test_a_refused_reservation(place: Place) -> None:
    place.write(roles={"worker": {"nodes": 3}})
    told(place.run("--phases", "reserve,release"), 6, "3")
    assert place.submissions() == 0
    nothing_left(place)


# --- the job


def bench_under_way(place: Place) -> subprocess.Popen[str]:
    """A run whose workload is held, with some samples here already."""
    place.order("hold")
    process = place.begin()
    place.until(lambda: place.workloads() == [1, 1], "the workload runs", process)
    folder = place.folders[-1].parent / "nodes"
    place.until(lambda: len(list(folder.glob("*/samples/*.gz"))) >= 2, "samples are here", process)
    return process


def samples(place: Place) -> list[Path]:
    return list((place.folders[-1].parent / "metrics").glob("*.parquet"))


def nodes_gone(place: Place) -> None:
    for node in place.nodes.values():
        node.be_silent()
        node.sshd.cut()


def test_the_walltime_ends_during_the_benchmark(place: Place) -> None:
    process = bench_under_way(place)
    place.lab.advance(3700)
    nodes_gone(place)
    told(place.end(process), 9, "walltime")
    assert samples(place)
    assert (place.folders[-1].parent / "report.html").exists()
    nothing_left(place)


def test_somebody_deletes_the_job_during_the_benchmark(place: Place) -> None:
    process = bench_under_way(place)
    [job] = place.held()
    place.lab.oar.delete(job, "jdoe")
    place.lab.advance(60)
    nodes_gone(place)
    told(place.end(process), 1, f"job {job} ended", "deleted")
    assert samples(place)
    nothing_left(place)


def test_a_node_that_is_installed_anew_under_its_workload(place: Place) -> None:
    process = bench_under_way(place)
    place.nodes["vm-1.lab.grid5000.fr"].install()
    place.go()
    told(place.end(process), 4, "the host key of vm-1.lab.grid5000.fr has changed")
    nothing_left(place)


# --- nodes


def test_a_node_that_never_answers_ssh(place: Place) -> None:
    place.nodes["vm-2.lab.grid5000.fr"].mute = True
    done = place.run(constants={"g5kdeploy.workflow.installing.READY_SECONDS": 3})
    told(done, 9, "vm-2", "role worker has 1 of the 2 nodes")
    nothing_left(place)


def test_a_node_that_stays_in_its_old_kernel(place: Place) -> None:
    place.order("kexec-does-nothing", 1)
    done = place.run(constants={"g5kdeploy.boot.kexec.START_SECONDS": 2})
    told(done, 9, "vm-1.lab.grid5000.fr did not leave its old kernel")
    nothing_left(place)


@pytest.mark.parametrize("how", ["not deployed", "old kernel"])
def test_lost_nodes_are_done_without_while_there_are_enough(place: Place, how: str) -> None:
    place.write(roles={"worker": {"nodes": 2, "min": 1}})
    if how == "not deployed":
        place.lab.deployer.order("vm-2", ko_at="BroadcastEnv", error="no link", step_seconds=0.1, times=2)
    else:
        place.order("kexec-does-nothing", 2)
    done = place.run(constants={"g5kdeploy.boot.kexec.START_SECONDS": 2})
    told(done, 5, "vm-2")
    summary = json.loads(done.stdout)
    assert {node["name"].partition(".")[0]: node["stage"] for node in summary["nodes"]} == {
        "vm-1": "instrumented",
        "vm-2": "lost",
    }
    assert [one["increase"] for one in summary["counters"]] == [CALLS]
    assert any("vm-2" in warning for warning in summary["warnings"])
    nothing_left(place)


# --- the cache


def test_an_archive_that_was_cut(place: Place) -> None:
    told(place.run("--until", "push", "--keep"), 0)
    [archive] = (place.public / "g5kdeploy" / "cache" / "nar").iterdir()
    archive.write_bytes(archive.read_bytes()[:-9])
    told(place.run(), 1, "refuses a path of the cache: its archive is not what its description says")
    nothing_left(place)
    told(place.run(), 0)  # a push finds it, and sends it again


def test_a_path_without_a_signature(place: Place) -> None:
    told(place.run("--until", "push", "--keep"), 0)
    [info] = (place.public / "g5kdeploy" / "cache").glob("*.narinfo")
    lines = info.read_text().splitlines(keepends=True)
    info.write_text("".join(line for line in lines if not line.startswith("Sig:")))
    told(place.run(), 4, "it carries no trusted signature")
    nothing_left(place)


# --- the workload


def test_a_workload_that_fails(place: Place) -> None:
    for node in place.nodes.values():
        (node.folder / "workload").write_text("echo 'cannot do it' >&2; exit 3\n")
    done = place.run()
    told(done, 1, "the workload failed on", "status 3", "workload.log", "workload FAILED")
    assert "workload ok" not in done.stderr
    assert samples(place)
    nothing_left(place)


def test_a_workload_that_hangs(place: Place) -> None:
    place.write(benchmark={"role": "worker", "command": "sleep 1000", "timeout": 1, "scrape_interval": 0.2})
    told(place.run(), 9, "timeout")
    assert samples(place)
    nothing_left(place)


def test_a_workload_that_fills_the_disk(place: Place) -> None:
    filling = "echo filling; cat /dev/zero > filler; exit 3"
    place.write(benchmark={"role": "worker", "command": filling, "scrape_interval": 0.2})
    told(place.run("--until", "deploy", "--keep"), 0)
    for node in place.nodes.values():
        node.run("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", BASE)
    done = place.run(constants={"g5kdeploy.workflow.measuring.START_SECONDS": 20})
    told(done, 1, "the workload failed on", "status 3", "No space left on device")
    document = place.document()
    assert {one["status"] for one in document["benchmark"]["nodes"].values()} == {3}
    assert not [node for node in document["nodes"].values() if node.get("lost_because")]
    assert samples(place)
    nothing_left(place)


def test_what_a_node_cannot_give_is_named_and_the_rest_comes(place: Place) -> None:
    command = "echo 1 > small; truncate -s 300M big"
    files = [f"{BASE}/workload-*/work/{name}" for name in ("big", "small")]
    place.write(benchmark={"role": "worker", "command": command, "files": files, "scrape_interval": 0.2})
    for node in place.nodes.values():
        (node.folder / "bin" / "journalctl").write_text("#!/bin/sh\necho 'the journal is damaged' >&2; exit 1\n")
    told(place.run(), 0)
    warnings = "\n".join(place.document()["warnings"])
    for said in ("the journal is damaged", "work/big: 300 MiB, more than the 256 MiB"):
        assert said in warnings
    assert len(list(place.folders[-1].parent.glob("nodes/*/files/**/small"))) == len(place.nodes)
    nothing_left(place)


def test_nodes_that_the_benchmark_lost_are_deployed_anew(place: Place) -> None:
    told(place.run("--until", "deploy", "--keep"), 0)
    node = place.nodes["vm-1.lab.grid5000.fr"]
    node.run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", BASE)
    told(place.run("--keep"), 1, "vm-1.lab.grid5000.fr", "did not start")
    node.run("umount", BASE)
    done = place.run()
    told(done, 0)
    assert {one["stage"] for one in json.loads(done.stdout)["nodes"]} == {"instrumented"}
    nothing_left(place)


# --- others


def test_two_commands_at_once(place: Place) -> None:
    first = bench_under_way(place)
    told(place.run(), 7, place.document()["id"])
    place.go()
    told(place.end(first), 0)
    assert place.submissions() == 1
    nothing_left(place)
