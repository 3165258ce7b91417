"""reserve, attach, extend and gc as commands, against the lab's API and scheduler under a clock that runs."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from g5kdeploy import experiment
from g5kdeploy.cli.main import main
from g5kdeploy.closure.manifest import Manifest, RoleClosure
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.runs import Run
from g5kdeploy.testbed.places import Testbed
from g5kdeploy.testbed.records import Records
from g5kdeploy.workflow import building, chain
from g5kdeploy.workflow.session import Session
from tests.contract.desk import Desk
from tests.support.sshd import SSHD

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd")

VM = "vm-{}.lab.grid5000.fr"


def test_a_job_made_elsewhere_becomes_the_runs(desk: Desk) -> None:
    number = desk.by_hand(name="mine")
    answer, _ = desk.on_run("attach", str(number))
    assert answer["job"] == number
    assert answer["roles"] == {"server": [VM.format(1)], "client": [VM.format(2)]}
    document = desk.document()
    assert document["job"]["id"] == number
    assert {name: node["role"] for name, node in document["nodes"].items()} == {
        VM.format(1): "server",
        VM.format(2): "client",
    }
    assert document["phases"]["reserve"]["state"] == "done"
    # The run goes on with it: nothing else is submitted, and nothing else can be taken on.
    desk.on_run("reserve")
    assert desk.live() == [number]
    other = desk.by_hand(resources="nodes=1,walltime=1:0:0")
    _, said = desk.on_run("attach", str(other), code=ExitCode.USAGE)
    assert f"has a reservation already: job {number} on lab" in said
    desk.on_run("release")
    assert desk.live() == [other]


def test_a_job_of_another_run_changes_hands_with_a_word(desk: Desk) -> None:
    number = desk.by_hand()
    first, said = desk.on_run("attach", str(number))
    assert "until now" not in said
    _, said = desk.on_run("attach", str(number))
    assert "until now" not in said
    desk.file = desk.file.with_name("other.yaml")
    desk.write()
    _, said = desk.on_run("attach", str(number))
    assert f"job {number} was of run {first['run']} until now" in said


def test_what_cannot_be_attached(desk: Desk) -> None:
    _, said = desk.on_run("attach", "4711", code=ExitCode.USAGE)
    assert "there is no job 4711 on lab" in said
    small = desk.by_hand(resources="nodes=1,walltime=1:0:0", types=[])
    _, said = desk.on_run("attach", str(small), code=ExitCode.NO_RESOURCES)
    assert "not enough nodes for: client (0 of 1)" in said
    assert "not of the type deploy" in said
    # It stays what it was before: nobody's here, and alive.
    assert Records("lab").unreleased() == []
    assert desk.live() == [small]
    assert desk.document()["job"] is None


def test_more_walltime_for_the_runs_job(desk: Desk) -> None:
    _, said = desk.on_run("extend", "+1:00", code=ExitCode.USAGE)
    assert "no run" in said
    desk.on_run("reserve")
    before = desk.document()["job"]["ends_at"]
    answer, _ = desk.on_run("extend", "+1:00")
    [item] = answer["items"]
    assert (item["asked_seconds"], item["granted_seconds"], item["walltime"]) == (3600, 3600, 7200)
    assert item["outcome"].startswith("granted: 1 h")
    assert desk.document()["job"]["ends_at"] == before + 3600
    # Somebody waits for these nodes: not granted, for now.
    desk.by_hand(resources="nodes=4,walltime=1:0:0")
    desk.wait(lambda: any(job.state == "Waiting" and job.scheduled_at for job in desk.lab.oar.current()))
    answer, _ = desk.on_run("extend", "30m", "--wait", "2s", code=ExitCode.DEADLINE)
    assert answer["items"][0]["outcome"].startswith("pending")
    _, said = desk.on_run("extend", "soon", code=ExitCode.USAGE)
    assert "+TIME" in said
    _, said = desk.on_run("extend", "+1", code=ExitCode.USAGE)
    assert "+TIME: `1` would be 1 s: say 1h for hours" in said


def test_more_walltime_while_the_run_is_worked_on(desk: Desk) -> None:
    desk.on_run("reserve")
    [folder] = (desk.file.parent / "runs").iterdir()
    run = Run.open(folder)
    lab = Testbed("lab", desk.lab.home)
    session = Session(experiment.load(desk.file), run, lab, Emitter())
    before = run.document()["job"]["ends_at"]
    with run.lock():
        text = (folder / "run.json").read_bytes()
        answer, _ = desk.on_run("extend", "+1:00")
        assert answer["items"][0]["granted_seconds"] == 3600
        assert (folder / "run.json").read_bytes() == text, "it is another one's"
        left = session.deadline(1e6, "a workload").remaining()
        assert before + 3600 - 10 < time.time() + left <= before + 3600 + 1, "who works on the run has the new end"
    desk.on_run("extend", "+0:30")
    assert desk.document()["job"]["ends_at"] == before + 5400


def test_a_job_that_is_there_keeps_its_walltime_and_that_is_said(desk: Desk) -> None:
    desk.by_hand(resources="nodes=4,walltime=1:0:0")
    _, said = desk.on_run("reserve", "--no-wait")
    assert "WARNING" not in said
    _, said = desk.on_run("reserve", "--no-wait", "--walltime", "4h")
    assert "has 1 h, not 4 h: g5kdeploy extend asks for more" in said
    desk.on_run("release")
    desk.lab.oar.delete(1, "jdoe")
    desk.on_run("reserve")
    _, said = desk.on_run("reserve", "--walltime", "4h")
    assert "has 1 h, not 4 h" in said
    _, said = desk.on_run("reserve", "--walltime", "30m")
    assert "WARNING" not in said


def test_gc_closes_records_and_lists_what_no_record_knows(desk: Desk) -> None:
    _, said = desk.call("gc")
    assert "nothing to tidy up" in said
    desk.on_run("reserve")
    [record] = Records("lab").unreleased()
    stray = desk.by_hand(name="g5kdeploy-other-machine-1", resources="nodes=1,walltime=1:0:0")
    tagged = desk.by_hand(types=["deploy", "origin=g5kdeploy"], resources="nodes=1,walltime=1:0:0")
    foreign = desk.by_hand(name="sweep", resources="nodes=1,walltime=1:0:0")
    answer, said = desk.call("gc")
    assert sorted(item["job"] for item in answer["items"]) == [stray, tagged]
    assert "--yes" in said
    assert len(desk.live()) == 4
    assert record.job is not None
    desk.lab.oar.delete(record.job, "jdoe")
    desk.wait(lambda: record.job not in desk.live())
    answer, _ = desk.call("gc", "--yes")
    told = {item["job"]: item["what"] for item in answer["items"]}
    assert "jdoe deleted it" in told[record.job]
    assert told[stray].startswith("let go")
    assert desk.live() == [foreign]
    assert Records("lab").unreleased() == []


def test_gc_lets_go_of_a_job_whose_run_is_gone(desk: Desk) -> None:
    mine, _ = desk.on_run("reserve")
    shutil.rmtree(desk.file.parent / "runs")
    desk.on_run("release", code=ExitCode.USAGE)
    _, said = desk.call("gc")
    assert "1 reservations are live: g5kdeploy gc JOB lets go of one" in said
    by_hand = desk.by_hand(name="sweep", resources="nodes=1,walltime=1:0:0")
    other = desk.by_hand(name="sweep", resources="nodes=1,walltime=1:0:0")
    _, said = desk.call("gc", "4711", code=ExitCode.USAGE)
    assert "you have no job 4711" in said
    _, said = desk.call("gc", "sweep", code=ExitCode.USAGE)
    assert "you have several jobs sweep" in said
    assert desk.live() == [mine["job"], by_hand, other], "nothing is let go of when one word is wrong"
    answer, _ = desk.call("gc", str(mine["job"]), str(other), str(other), desk.lab.oar.job(mine["job"]).name)
    assert [item["job"] for item in answer["items"]] == [mine["job"], other]
    assert answer["items"][1]["name"] == "sweep"
    assert all("jdoe deleted it" in item["what"] for item in answer["items"])
    assert desk.live() == [by_hand]
    assert Records("lab").unreleased() == []


def test_commands_at_once_begin_one_run(desk: Desk) -> None:
    told = experiment.load(desk.file, {"testbed": experiment.Given("lab", "a test")})
    ready = threading.Barrier(8)

    def begin(_: int) -> str:
        ready.wait()
        return chain.open_run(told, Emitter(), new=True).run.id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(begin, range(8)))) == 1


def test_a_run_whose_experiment_was_renamed_is_named(desk: Desk) -> None:
    answer, _ = desk.on_run("reserve")
    desk.file = desk.file.rename(desk.file.with_name("renamed.yaml"))
    _, said = desk.on_run("release", code=ExitCode.USAGE)
    assert f"run {answer['run']} is of experiment.yaml, which is gone" in said and "--run ID" in said
    desk.on_run("release", "--run", answer["run"])
    assert desk.live() == []


def test_jobs_on_two_sites_by_one_command(places: Desk) -> None:
    places.write(
        site="east",
        roles={"server": {"nodes": 1}, "client": {"nodes": 2, "site": "west", "needs": {"cores": 2, "memory": 0.5}}},
        vlan="global",
        subnets={"count": 1},
    )
    plan, _ = places.on_run("plan")
    assert [item["name"] for item in plan["items"]] == ["east+west/vmeast+vmwest"]
    answer, _ = places.on_run("reserve", "--exclude-nodes", "vmwest-[1,3]", code=ExitCode.NO_RESOURCES)
    assert answer == {}
    answer, _ = places.on_run("reserve", "--exclude-nodes", "vmwest-1", "--at", "now", "--policy", "ignore")
    assert answer["roles"] == {
        "server": ["vmeast-1.east.grid5000.fr"],
        "client": ["vmwest-2.west.grid5000.fr", "vmwest-3.west.grid5000.fr"],
    }
    assert set(answer["jobs"]) == {"east", "west"}
    document = places.document()
    assert document["job"] == document["jobs"][0]
    assert [job["site"] for job in document["jobs"]] == ["east", "west"]
    assert document["jobs"][0]["vlans"] == ["10"] and document["jobs"][1]["vlans"] == []
    assert all(len(job["subnets"]) == 1 for job in document["jobs"])
    status, _ = places.call("status", "--mine")
    assert {item["site"]: item["vlans"] for item in status["items"]} == {"east": ["10"], "west": []}
    extended, _ = places.on_run("extend", "30m")
    assert {item["site"]: item["granted_seconds"] for item in extended["items"]} == {"east": 1800, "west": 1800}
    places.lab.faults.answer(403, method="DELETE", path="/sites/east/")
    places.on_run("release", code=ExitCode.NOT_ALLOWED)
    assert [record.site for record in Records("lab").unreleased()] == ["east"], "the other one is let go all the same"
    places.on_run("release")
    assert [job for oar in places.lab.oars.made.values() for job in oar.current()] == []


def test_nodes_that_are_left_out_have_to_be_there(places: Desk) -> None:
    places.write(site="east", roles={"server": {"nodes": 1}})
    wrong = "vmwest-1,vmest-[2-3],vmeast-9,vmwest-9.west.grid5000.fr"
    for name in ("plan", "reserve", "run"):
        _, said = places.on_run(name, "--exclude-nodes", wrong, code=ExitCode.USAGE)
        assert "the testbed has no node vmeast-9,vmest-[2-3],vmwest-9.west.grid5000.fr" in said, said
        assert "near vmest-2: vmwest-2, vmeast-2" in said and "near vmeast-9: vmeast-3" in said, said
        _, said = places.on_run(name, "--exclude-nodes", "gpu-1", code=ExitCode.USAGE)
        assert "no node gpu-1" in said and "topology" in said
        _, said = places.on_run(name, "--exclude-nodes", "vmeast-[1", code=ExitCode.USAGE)
        assert "no set of nodes" in said
    assert places.document()["phases"] == {}, "it is found out before anything is done"
    places.write(
        site="east", roles={"server": {"nodes": 3}}, exclude_nodes=["paradoxe-7"]
    )  # the file is for more testbeds
    places.on_run("plan")
    # Of what does not answer nobody can say that it is not there
    places.lab.faults.answer(400, path="/sites/west/clusters", times=100)
    places.on_run("plan", "--exclude-nodes", "vmwest-9")
    places.lab.faults.clear()
    plan, _ = places.on_run("plan", "--exclude-nodes", "vmwest-1.west.grid5000.fr,vmwest-2")
    assert plan["items"][0]["nodes"] == 3


def test_the_site_is_chosen_among_several(places: Desk) -> None:
    places.write(site="east", roles={"server": {"nodes": 3}})
    taken = places.by_hand(site="east", resources="nodes=1,walltime=1:0:0")
    places.wait(lambda: places.lab.oars["east"].job(taken).state == "Running")
    _, said = places.on_run("reserve", "--site", "west", "--at", "2001-01-01 10:00", code=ExitCode.USAGE)
    assert "is over" in said
    assert places.document()["site"] == "west", "the run went there"
    places.on_run("reserve", "--site", "east", "--at", "2001-01-01 10:00", code=ExitCode.USAGE)
    assert places.document()["site"] == "east"
    plan, _ = places.on_run("plan", "--sites", "all")
    assert [item["name"] for item in plan["items"]] == ["west/vmwest", "east/vmeast"]
    [folder] = (places.file.parent / "runs").iterdir()
    with Run.open(folder).phase("push", "") as record:
        record.result["site"] = "east"
    answer, said = places.on_run("reserve", "--sites", "east,west")
    assert {node.split(".")[1] for node in answer["roles"]["server"]} == {"west"}
    assert places.document()["site"] == "west"
    assert "planned on west/vmwest" in said
    moved: Any = SimpleNamespace(run=Run.open(folder))
    assert building.pushed_to(moved) == "east", "all sites' nodes read what is there"
    assert places.on_run("reserve", "--sites", "nope")[0]["job"] == answer["job"], "it has its job"


def test_run_chooses_among_sites_and_nodes_as_reserve_does(places: Desk) -> None:
    places.write(site="east", roles={"server": {"nodes": 2}})
    taken = places.by_hand(site="east", resources="nodes=2,walltime=1:0:0")
    places.wait(lambda: places.lab.oars["east"].job(taken).state == "Running")
    words = ("--phases", "reserve", "--sites", "all", "--exclude-nodes", "vmwest-2")
    plan, _ = places.on_run("run", *words, "--dry-run")
    assert plan["items"][0]["what"].endswith("on testbed lab, at any site, whichever can be had first")
    answer, _ = places.on_run("run", *words)
    assert [node["name"] for node in answer["nodes"]] == [f"vmwest-{n}.west.grid5000.fr" for n in (1, 3)]
    places.on_run("release")


def test_a_reservation_that_starts_short_goes_on_with_enough_nodes(desk: Desk) -> None:
    desk.write(roles={"server": {"nodes": 2, "min": 1}, "client": {"nodes": 1}})
    number = desk.by_hand(resources="nodes=2,walltime=1:0:0")
    answer, said = desk.on_run("attach", str(number), code=ExitCode.PARTLY)
    assert answer["roles"] == {"server": [VM.format(1)], "client": [VM.format(2)]}
    assert f"job {number} started with 2 of 3 nodes" in said
    assert desk.document()["phases"]["reserve"]["state"] == "partly"


def test_closures_for_other_processors_are_found_before_reserving(desk: Desk) -> None:
    runs = desk.file.parent / "runs"
    desk.on_run("attach", "99", code=ExitCode.USAGE)  # which begins a run
    [run] = runs.iterdir()
    role = RoleClosure("/nix/store/x", "/nix/store/x/k", "/nix/store/x/i", "/nix/store/x/init", "", "6.1", ())
    Manifest("aarch64-linux", "local-store", {"server": role}, {}, {"by": "a test"}).save(run / "closure.json")
    _, said = desk.on_run("reserve", code=ExitCode.NO_RESOURCES)
    assert "4 is x86_64, the closures are aarch64" in said
    _, said = desk.on_run("plan", code=ExitCode.NO_RESOURCES)
    assert "is x86_64, the closures are aarch64" in said
    assert desk.live() == []


def test_commands_on_jobs_need_a_testbed(desk: Desk) -> None:
    for words in (["gc"], ["attach", "1", str(desk.file)], ["extend", "1h", str(desk.file)]):
        assert main(words) == ExitCode.USAGE
