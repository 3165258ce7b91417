"""Planning on the lab: what its status, reference data, accesses and scheduler say, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from g5kdeploy.base import folders
from g5kdeploy.base.problem import Problem
from g5kdeploy.cli.main import main
from g5kdeploy.events.failure import ExitCode, InvalidUse, NoResources, NotAllowed
from g5kdeploy.experiment import load
from g5kdeploy.testbed import credentials, inventory, planning
from g5kdeploy.testbed import reservations as r
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.planning import Plan, Wish
from g5kdeploy.testbed.request import RoleNodes
from g5kdeploy.workflow import starting
from tests.contract.scripted import Lab
from tests.contract.testbed_world import World, a_request, nodes

HOUR = 3600


def plan(world: World, count: int, at: str = "earliest", **more: Any) -> Plan:
    wish = Wish(nodes(count), HOUR, **more)
    land = planning.look(world.api, ["lab"], world.deadline())
    return planning.plan(land, wish, planning.window(at, wish.walltime, land.now))


def test_free_nodes_are_had_at_once_and_alive_ones_first(world: World) -> None:
    world.lab.oar.set_state("vm-1.lab.grid5000.fr", "Standby")
    (option,) = plan(world, 2).options
    assert (option.name, option.start) == ("lab/vm", world.lab.hand.now)
    assert option.nodes == ("vm-2.lab.grid5000.fr", "vm-3.lab.grid5000.fr")
    assert option.verdict.allowed
    (option,) = plan(world, 4).options
    assert option.standby == 1
    assert "1 of the nodes must be switched on first" in option.notes


def test_the_start_is_the_one_that_the_scheduler_gives(world: World) -> None:
    running = world.running(a_request(roles=nodes(3)))
    assert running.job.ends_at is not None
    (option,) = plan(world, 2).options
    assert option.start == running.job.ends_at + 61
    waiting = world.reserve(a_request(run="run-2", roles=nodes(2)))
    world.lab.advance(70)
    again = r.resume(world.api, waiting.record, world.records, world.deadline())
    assert again is not None
    assert again.job.scheduled_at == option.start
    # The job that waits counts with its predicted start: four nodes are free only after it.
    (option,) = plan(world, 4).options
    assert option.start == again.job.scheduled_at + HOUR + 61


def test_besteffort_jobs_make_way(world: World) -> None:
    world.by_hand(types=["deploy", "besteffort"], resources="nodes=4,walltime=2:0:0")
    world.lab.advance(300)
    (option,) = plan(world, 2).options
    assert (option.start, option.evicted) == (world.lab.hand.now, 2)
    (option,) = plan(world, 2, types=("deploy", "besteffort")).options
    assert option.start > world.lab.hand.now
    assert option.evicted == 0


def test_nodes_out_of_order_do_not_count(world: World) -> None:
    for number, state in enumerate(("Absent", "Suspected", "Dead"), start=1):
        world.lab.oar.set_state(f"vm-{number}.lab.grid5000.fr", state)
    (option,) = plan(world, 1).options
    assert option.nodes == ("vm-4.lab.grid5000.fr",)
    assert "out of order: 1 absent, 1 dead, 1 suspected" in option.notes
    found = plan(world, 2)
    assert not found.options
    assert found.without == (("lab", "vm", "1 of 2 nodes will do (1 is absent, 1 is suspected, 1 is dead)"),)


def test_inside_a_container_its_nodes_are_there_to_be_had(world: World) -> None:
    outer = world.running(a_request(roles=nodes(3), types=("cosystem", "container"), walltime=3 * HOUR))
    types = ("deploy", f"inner={outer.job.id}")
    first = world.running(a_request(run="run-2", roles=nodes(2), types=types))
    assert first.job.ends_at is not None
    (option,) = plan(world, 1, types=types).options
    assert option.start == world.lab.hand.now and set(option.nodes) <= set(outer.nodes) - set(first.nodes)
    (option,) = plan(world, 2, types=types).options
    assert option.start == first.job.ends_at + 61
    waiting = world.reserve(a_request(run="run-3", roles=nodes(2), types=types))
    world.lab.advance(70)
    again = r.resume(world.api, waiting.record, world.records, world.deadline())
    assert again is not None and again.job.scheduled_at == option.start
    found = plan(world, 4, types=types)
    assert found.without == (("lab", "vm", f"3 of 4 nodes will do (1 is not in the container {outer.job.id})"),)
    assert plan(world, 2).options[0].start > option.start, "to others all of them are taken"


def test_only_now_means_only_now(world: World) -> None:
    world.running(a_request(roles=nodes(3)))
    assert plan(world, 1, "now").options
    assert not plan(world, 2, "now").options


def test_the_night_and_own_jobs_of_the_day(world: World) -> None:
    (option,) = plan(world, 4, "night").options
    assert option.start == 1_795_510_800 + 9 * HOUR  # 19:00
    assert option.verdict.why.startswith("outside working hours")
    running = world.running(a_request(roles=nodes(4), walltime=2 * HOUR))  # all of the day's quota
    (option,) = plan(world, 1).options
    assert not option.verdict.allowed
    assert "your other jobs of that day" in option.verdict.why
    assert option.allowed == 1_795_510_800 + 9 * HOUR
    assert running.job.ends_at is not None
    assert option.start == running.job.ends_at + 61


def test_a_site_that_there_is_none_of(world: World) -> None:
    with pytest.raises(InvalidUse, match="no site 'nope'"):
        planning.look(world.api, ["nope"], world.deadline())


def test_a_dead_site_does_not_spoil_the_plan(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.api, "sites", lambda deadline: ["lab", "nope"])
    world.lab.faults.answer(400, path="/sites/nope/clusters", times=2)
    land = planning.look(world.api, [], world.deadline())
    assert list(land.nodes) == ["lab"]
    assert list(land.troubles) == ["nope"]
    with pytest.raises(Problem):
        planning.look(world.api, ["nope"], world.deadline())


def test_a_site_without_clusters_is_asked_for_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.api, "sites", lambda deadline: ["empty", "lab"])
    world.lab.faults.answer(500, path="/sites/empty/(status|jobs)", times=100)  # as its server does
    land = planning.look(world.api, [], world.deadline())
    assert (list(land.nodes), land.troubles) == (["lab"], {})
    empty, full = inventory.status(world.api, world.deadline())
    assert (empty, full.nodes) == (inventory.SiteStatus("empty"), 4)


def test_all_sites_of_a_large_testbed_in_one_look(big_lab: Lab) -> None:
    with Api(credentials.load(big_lab.home), clock=big_lab.clock) as api:
        deadline = World(big_lab, api, None, [], None).deadline()  # type: ignore[arg-type]
        land = planning.look(api, [], deadline)
    members = [node for site in land.nodes.values() for cluster in site.values() for node in cluster]
    assert len(members) == 939
    assert land.accesses
    window = planning.window("earliest", HOUR, land.now)
    found = planning.plan(land, Wish(nodes(2), HOUR), window)
    assert len({option.site for option in found.options}) == 11
    assert all(option.start == land.now for option in found.options)
    whys = " ".join(why for _, _, why in found.without)
    assert "is aarch64, the closures are x86_64" in whys
    assert "takes the queue abaca or production, not default (" in whys
    # Two clusters of a site together have what none has alone.
    site = max(land.nodes, key=lambda name: sum(map(len, land.nodes[name].values())))
    usual = [
        cluster
        for cluster, some in land.nodes[site].items()
        if not planning.plan(
            planning.Landscape(land.now, {site: {cluster: some}}), Wish(nodes(2), HOUR), window
        ).without
    ]
    count = max(len(land.nodes[site][cluster]) for cluster in usual) + 1
    if sum(len(land.nodes[site][cluster]) for cluster in usual) >= count:
        names = [o.name for o in planning.plan(land, Wish(nodes(count), HOUR), window).options]
        assert f"{site}/any" in names
    # Roles that name clusters are had together where those are.
    first, second = usual[0], usual[-1]
    roles = (RoleNodes("a", 1, cluster=first), RoleNodes("b", 1, cluster=second), RoleNodes("c", 1, cluster=first))
    (option,) = planning.plan(land, Wish(roles, HOUR), window).options
    assert option.cluster == "+".join(sorted({first, second}))
    assert len(option.nodes) == 3


@pytest.fixture
def home(lab: Lab, tmp_path: Path) -> Path:
    """An experiment of two nodes, and the lab where the client looks for one."""
    place = folders.state() / "lab" / "home"
    place.mkdir(parents=True)
    lab.write_home(place, "jdoe", "secret")
    experiment = tmp_path / "two"
    experiment.mkdir()
    (experiment / "roles.nix").write_text("{ }")
    (experiment / "test.py").write_text("")
    text = "apiVersion: g5kdeploy/v1\nname: two\ntestbed: lab\nroles:\n  server:\n    nodes: 2\n"
    (experiment / "experiment.yaml").write_text(text)
    return experiment


def test_the_command(lab: Lab, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(home), "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "Plan"
    (item,) = document["items"]
    assert (item["name"], item["nodes"], item["node_names"]) == ("lab/vm", 2, lab.node_names(2))
    assert main(["plan", str(home), "--sites", "all", "--at", "weekend"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["NAME", "NODES", "START", "POLICY", "NOTES"]
    assert "yes: outside working hours" in out


def test_the_command_when_there_is_no_way(lab: Lab, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab.oar.set_state("vm-1.lab.grid5000.fr", "Dead")
    file = home / "experiment.yaml"
    file.write_text(file.read_text().replace("nodes: 2", "nodes: 4"))
    assert main(["plan", str(home)]) == ExitCode.NO_RESOURCES
    assert "3 of 4 nodes will do (1 is dead)" in capsys.readouterr().err
    assert main(["plan", str(home), "--at", "someday"]) == ExitCode.USAGE
    assert main(["plan", str(home), "--sites", "nope"]) == ExitCode.USAGE
    assert main(["plan", str(home), "--sites", ","]) == ExitCode.USAGE


def session(world: World, home: Path) -> Any:
    """What `starting` needs of a session."""
    return SimpleNamespace(
        records=world.records,
        api=world.api,
        clock=world.lab.clock,
        emit=world.emit,
        experiment=load(home),
    )


def test_a_reservation_starts_when_the_plan_says(world: World, home: Path) -> None:
    held = world.running(a_request(roles=nodes(3)))
    at_work = session(world, home)
    asked = a_request(run="run-2", roles=(RoleNodes("server", 2),))
    placed, latest = starting.placed(at_work, asked, "earliest", "warn", world.deadline())
    assert held.job.ends_at is not None
    assert (placed.at, placed.roles) == (held.job.ends_at + 61, (RoleNodes("server", 2, cluster="vm"),))
    assert placed.at is not None
    too_early = replace(placed, at=placed.at - 600)
    with pytest.raises(NoResources, match="could run at"):
        starting.submitted(at_work, too_early, None, world.deadline())
    taken, [reservation] = starting.submitted(at_work, too_early, latest, world.deadline())
    assert reservation.job.scheduled_at == taken.at
    assert taken.at >= held.job.ends_at
    with pytest.raises(NoResources, match="--at now"):
        starting.placed(at_work, asked, "now", "warn", world.deadline())
    night, _ = starting.placed(at_work, asked, "night", "enforce", world.deadline())
    assert night.at == 1_795_510_800 + 9 * HOUR


def test_the_policy_is_told_or_enforced(world: World, home: Path) -> None:
    file = home / "experiment.yaml"
    file.write_text(file.read_text().replace("roles:", "walltime: 5h\nroles:"))
    at_work = session(world, home)
    asked = a_request(roles=(RoleNodes("server", 2),), walltime=5 * HOUR)
    said, _ = starting.placed(at_work, asked, "earliest", "warn", world.deadline())
    assert said.at is None
    assert any("the usage policy says no" in str(event) for event in world.events)
    world.events.clear()
    assert starting.placed(at_work, asked, "earliest", "ignore", world.deadline()) == (said, None)
    assert not any("says no" in str(event) for event in world.events)
    lawful, _ = starting.placed(at_work, asked, "earliest", "enforce", world.deadline())
    assert lawful.at == 1_795_510_800 + 9 * HOUR
    with pytest.raises(NotAllowed, match="core-hours of vm"):
        starting.placed(at_work, asked, "", "enforce", world.deadline())
    assert starting.placed(at_work, asked, "", "warn", world.deadline()) == (asked, None)
