"""The client is interrupted, ended or killed in every phase: the nodes are let go, or the same command goes on."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading

import pytest

from tests.integration.workflow.place import CALLS, RELEASE, Place
from tests.integration.workflow.test_bad_luck import bench_under_way, nothing_left, told
from tests.support.node_inside import BASE_RELEASE

PHASES = ["build", "vmtest", "push", "reserve", "deploy", "check", "bench", "collect", "report", "release"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
both = pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)


def stands(place: Place, process: subprocess.Popen[str], where: str) -> None:
    place.until(place.mark.exists, f"it stands at {where}", process)


@pytest.mark.parametrize("phase", PHASES)
def test_an_interrupt_in_a_phase_lets_the_nodes_go(place: Place, phase: str) -> None:
    process = place.begin(stall=f"{phase}:before")
    stands(place, process, phase)
    process.send_signal(signal.SIGINT)
    told(place.end(process), 130, "interrupted")
    nothing_left(place)


@both
def test_while_the_job_waits(place: Place, number: signal.Signals) -> None:
    other = place.lab.oar.submit("asmith", {"resources": "nodes=2,walltime=01:00:00", "command": "sleep 1h"}).id
    place.until(lambda: place.lab.oar.job(other).state == "Running", "the other job runs")
    process = place.begin()
    place.until(lambda: len(place.held()) == 2, "ours waits", process)
    place.until(lambda: place.document()["job"], "it is known here", process)
    process.send_signal(number)
    told(place.end(process), CODES[number])
    assert list(place.held()) == [other]
    assert place.document()["released"] is True


@both
def test_while_the_nodes_are_deployed(place: Place, number: signal.Signals) -> None:
    for node in place.nodes:
        place.lab.deployer.order(node, hangs=True, step_seconds=0.1)
    process = place.begin()
    place.until(lambda: place.lab.deployer.started, "the deployment began", process)  # its id may not be heard yet
    process.send_signal(number)
    told(place.end(process), CODES[number])
    assert place.lab.deployer.cancelled == [place.lab.deployer.started[0].uid]
    nothing_left(place)


@both
def test_while_the_workload_runs(place: Place, number: signal.Signals) -> None:
    process = bench_under_way(place)
    process.send_signal(number)
    told(place.end(process), CODES[number])
    assert list((place.folders[-1].parent / "metrics").glob("*.parquet"))
    assert (place.folders[-1].parent / "report.html").exists()
    nothing_left(place)


def test_whoever_watched_is_gone_when_the_interrupt_comes(place: Place) -> None:
    """`g5kdeploy run 2>&1 | tee log`: ctrl-C ends both, and `tee` is the faster one."""
    reader, writer = os.pipe()
    try:
        process = place.begin("--phases", "reserve,deploy,report,release", stall="deploy:before", watched=writer)
        os.close(writer)
        stands(place, process, "deploy")
    finally:
        os.close(reader)
    process.send_signal(signal.SIGINT)
    told(place.end(process), 130)
    nothing_left(place)


def test_the_terminal_is_closed(place: Place) -> None:
    ours, its = pty.openpty()
    try:
        process = place.begin("--phases", "reserve,deploy,report,release", stall="deploy:before", watched=its)
        os.close(its)
        stands(place, process, "deploy")
    finally:
        os.close(ours)  # the kernel sends it a SIGHUP
    told(place.end(process), 143)
    nothing_left(place)


def test_kept_nodes_stay_and_the_same_command_goes_on(place: Place) -> None:
    place.order("hold")
    process = place.begin("--keep")
    place.until(lambda: place.workloads() == [1, 1], "the workload runs", process)
    process.send_signal(signal.SIGINT)
    told(place.end(process), 130, "go on with the same command")
    assert len(place.held()) == 1
    place.go()
    told(place.run(), 0)
    assert len(place.folders) == 1
    assert place.workloads() == [1, 1]
    assert place.submissions() == 1
    nothing_left(place)


@pytest.mark.parametrize("where", ["before", "after"])
def test_killed_in_every_phase_and_the_same_command_again(place: Place, where: str) -> None:
    for phase in PHASES:
        process = place.begin(stall=f"{phase}:{where}")
        stands(place, process, f"{phase}:{where}")
        process.kill()
        assert place.end(process).returncode == -signal.SIGKILL
    done = place.run()
    told(done, 0)
    summary = json.loads(done.stdout)
    if where == "before":
        assert [one["increase"] for one in summary["counters"]] == [CALLS, CALLS]
        assert len(place.folders) == 1
    assert place.submissions() == len(place.folders)
    nothing_left(place)


def test_killed_while_the_workload_runs(place: Place) -> None:
    process = bench_under_way(place)
    process.kill()
    place.end(process)
    place.go()  # it goes on without anybody
    done = place.run()
    told(done, 0)
    assert [one["increase"] for one in json.loads(done.stdout)["counters"]] == [CALLS, CALLS]
    assert place.workloads() == [1, 1]
    assert place.submissions() == 1
    nothing_left(place)


def test_killed_while_the_nodes_are_deployed(place: Place) -> None:
    for node in place.nodes:
        place.lab.deployer.order(node, step_seconds=3.0)
    process = place.begin()
    place.until(lambda: place.lab.deployer.started, "the deployment began", process)
    process.kill()
    place.end(process)
    told(place.run(), 0)
    assert place.submissions() == 1
    assert place.workloads() == [1, 1]
    nothing_left(place)


def test_killed_between_the_kexec_and_its_proof(place: Place) -> None:
    """Nobody but the dead knew the host keys that the nodes come up with, were they not on record."""
    place.order("kexec-waits")
    process = place.begin()
    waits = [node.folder / "waits" for node in place.nodes.values()]
    place.until(lambda: all(one.exists() for one in waits), "the kexec is called", process)
    process.kill()
    place.end(process)
    for node in place.nodes.values():
        (node.folder / "knobs" / "kexec-waits").unlink()
    done = place.run()
    told(done, 0)
    summary = json.loads(done.stdout)
    assert [(node["before"], node["after"]) for node in summary["nodes"]] == [(BASE_RELEASE, RELEASE)] * 2
    assert place.submissions() == 1
    nothing_left(place)


def test_a_second_interrupt_during_the_release_says_what_is_still_held(place: Place) -> None:
    place.order("hold")
    process = place.begin(stall="release:before")
    place.until(lambda: place.workloads() == [1, 1], "the workload runs", process)
    process.send_signal(signal.SIGINT)
    stands(place, process, "release")
    process.send_signal(signal.SIGINT)
    told(place.end(process), 130, "the nodes may still be held", "g5kdeploy release --run")
    assert len(place.held()) == 1
    told(place.call(*place.command("release")), 0)
    nothing_left(place)


def test_killed_while_the_site_ends_the_job(place: Place) -> None:
    """All was done but the end: the same command brings that, and does not begin anew."""
    gate = threading.Event()
    place.lab.faults.order(method="DELETE", path=r"/jobs/\d+$", gate=gate)
    process = place.begin()
    try:
        place.until(place.held, "the job is there", process)
        place.until(lambda: not place.held(), "the job is over", process)
        process.kill()
    finally:
        gate.set()
    place.end(process)
    assert place.document()["released"] is False
    done = place.run()
    told(done, 0)
    assert len(place.folders) == 1
    assert [one["increase"] for one in json.loads(done.stdout)["counters"]] == [CALLS, CALLS]
    assert place.submissions() == 1
    nothing_left(place)
