"""Jobs on several sites as one reservation: all are had or none; and their common start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.events.event import Emitter, Event, State
from g5kdeploy.events.failure import InvalidUse, NoResources
from g5kdeploy.experiment.model import Needs
from g5kdeploy.testbed import credentials, inventory, planning, together
from g5kdeploy.testbed import reservations as r
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.planning import Plan, Wish
from g5kdeploy.testbed.planning.landscape import SECURITY
from g5kdeploy.testbed.problems import ApiProblem, JobOver
from g5kdeploy.testbed.records import Records
from g5kdeploy.testbed.request import Request, RoleNodes, apart
from tests.contract.scripted import Lab
from tests.contract.testbed_world import World

HOUR = 3600
ROLES = (RoleNodes("client", 1, site="west"), RoleNodes("server", 2))


@pytest.fixture
def sites(two_sites: Lab, tmp_path: Path) -> Iterator[World]:
    """A client on the two sites; its sleeping turns the lab's clock."""
    events: list[Event] = []
    emit = Emitter(sinks=[events.append], clock=two_sites.clock)
    with Api(credentials.load(two_sites.home), emit, clock=two_sites.clock) as api:
        records = Records("lab", tmp_path / "reservations", clock=two_sites.clock)
        yield World(two_sites, api, records, events, emit)


def asked(**more: Any) -> tuple[Request, ...]:
    return apart(replace(Request(site="east", roles=ROLES, walltime=HOUR, run="run-1"), **more))


def reserve(sites: World, requests: tuple[Request, ...]) -> list[r.Reservation]:
    return together.reserve_all(sites.api, requests, sites.records, sites.deadline(), sites.emit)


def start(sites: World, held: list[r.Reservation]) -> list[r.Reservation]:
    return together.start_all(sites.api, held, sites.records, sites.deadline(4 * HOUR), sites.emit)


def live(sites: World) -> dict[str, list[int]]:
    return {site: [job.id for job in oar.current()] for site, oar in sites.lab.oars.made.items()}


def occupy(sites: World, site: str, hours: int = 1) -> int:
    """All nodes of a site, by somebody else."""
    body = {"command": "sleep 1d", "resources": f"nodes=3,walltime={hours}:0:0", "types": ["deploy"]}
    return int(sites.api.post(f"/sites/{site}/jobs", body, sites.deadline())["uid"])


def test_one_request_a_site_and_the_own_one_first() -> None:
    first, second = asked(vlan="global", subnets=(22, 1))
    assert (first.site, first.roles) == ("east", (ROLES[1],))
    assert (second.site, second.roles) == ("west", (ROLES[0],))
    assert (first.vlan, second.vlan) == ("global", ""), "a global VLAN reaches all sites"
    assert {part.vlan for part in asked(vlan="routed")} == {"routed"}
    assert [part.site for part in asked(roles=(ROLES[0],))] == ["west"]


def test_both_jobs_run_before_anything_goes_on(sites: World) -> None:
    blocker = occupy(sites, "west")
    held = reserve(sites, asked(walltime=3 * HOUR))
    assert [one.site for one in held] == ["east", "west"]
    assert len(sites.records.unreleased(run="run-1")) == 2
    running = start(sites, held)
    assert [len(one.nodes) for one in running] == [2, 1]
    assert sites.lab.oars["west"].job(blocker).state == "Error", "its walltime ended meanwhile"
    assert running[1].nodes == ("vmwest-1.west.grid5000.fr",)
    again = reserve(sites, asked())
    assert [one.job.id for one in again] == [one.job.id for one in running]


def test_when_one_is_refused_the_others_are_let_go(sites: World) -> None:
    too_many = replace(ROLES[0], count=4)
    with pytest.raises(NoResources, match="west"):
        reserve(sites, asked(roles=(too_many, ROLES[1])))
    sites.lab.advance(10)
    assert live(sites) == {"east": [], "west": []}
    assert sites.records.unreleased() == []
    assert any(event.state is State.WARNING and "is let go" in event.detail for event in sites.events)


def test_when_a_site_is_silent_the_others_are_let_go(sites: World) -> None:
    sites.lab.faults.answer(503, path="/sites/west/", times=1000)
    with pytest.raises(ApiProblem):
        reserve(sites, asked())
    sites.lab.faults.clear()
    sites.lab.advance(40)
    assert live(sites)["east"] == []
    left = sites.records.unreleased(run="run-1")
    assert [record.site for record in left] == ["west"], "nobody knows whether that one was taken"
    sites.release(left[0].name)
    assert sites.records.unreleased() == []


@pytest.mark.parametrize("lost", ["the one that waits", "the one that runs"])
def test_when_one_is_lost_the_others_are_let_go(sites: World, lost: str) -> None:
    occupy(sites, "west")
    held = reserve(sites, asked())
    sites.lab.advance(20)
    victim = held[0] if lost == "the one that runs" else held[1]
    sites.lab.oars[victim.site].delete(victim.job.id, "jdoe")
    with pytest.raises(JobOver, match=f"job {victim.job.id} on {victim.site} ended") as caught:
        start(sites, held)
    assert caught.value.cause == "jdoe deleted it"
    sites.lab.advance(10)
    assert held[0].job.id not in live(sites)["east"]
    assert held[1].job.id not in live(sites)["west"]
    assert sites.records.unreleased() == []


def plan(sites: World, wish: Wish, at: str = "earliest", homes: tuple[str, ...] = ("east",)) -> Plan:
    land = planning.look(sites.api, [], sites.deadline())
    return planning.plan_sites(land, wish, planning.window(at, wish.walltime, land.now), homes)


def test_the_start_is_common(sites: World) -> None:
    wish = Wish(ROLES, HOUR)
    (option,) = plan(sites, wish).options
    assert (option.name, option.start) == ("east+west/vmeast+vmwest", sites.lab.hand.now)
    assert [node.split(".")[1] for node in option.nodes] == ["east", "east", "west"]
    occupy(sites, "east")
    sites.lab.advance(30)
    occupy(sites, "west", hours=2)
    sites.lab.advance(30)
    [east], [west] = (plan(sites, Wish((RoleNodes("r", 1),), HOUR), homes=(site,)).options for site in ("east", "west"))
    assert east.start < west.start
    (option,) = plan(sites, wish).options
    assert option.start == west.start
    assert plan(sites, wish, "now").options == ()
    assert "no" in plan(sites, wish, "now").without[0][2]


def test_all_jobs_begin_at_the_advance_start(sites: World) -> None:
    at = sites.lab.hand.now + 2 * HOUR
    held = reserve(sites, asked(at=at))
    assert {one.job.scheduled_at for one in held} == {at}
    running = start(sites, held)
    assert all(one.job.started_at is not None and one.job.started_at - at < 61 + SECURITY for one in running)


def test_vlan_subnets_and_disks_are_had_with_the_nodes(sites: World) -> None:
    role = RoleNodes("server", 2, disks=True)
    request = Request(site="east", roles=(role,), walltime=HOUR, run="run-1", vlan="routed", subnets=(22, 2))
    inventory.check_exists(sites.api, request, sites.deadline())
    running = sites.running(request)
    job = running.job
    assert job.vlans == ("4",)
    assert len(job.subnets) == 2 and all(one.endswith("/22") for one in job.subnets)
    assert job.disks == ("disk1.vmeast-1.east.grid5000.fr", "disk1.vmeast-2.east.grid5000.fr")
    assert len(running.nodes) == 2
    kept = sites.records.get(running.record.name)
    assert kept is not None
    assert (kept.vlans, kept.subnets, kept.disks) == (job.vlans, job.subnets, job.disks)
    elsewhere = replace(request, site="west", run="run-2")
    with pytest.raises(NoResources, match="asks for 2 and gets 0"):
        inventory.check_exists(sites.api, elsewhere, sites.deadline())
    with pytest.raises(InvalidUse, match="no kind of VLAN"):
        sites.reserve(replace(request, vlan="private", run="run-3"))


def test_a_disk_that_is_taken_is_planned_around(sites: World) -> None:
    """A disk alone is taken, whose node is free; the scheduler gives role and disks when the plan says."""
    body = {"command": "sleep 1d", "resources": "{type='disk'}/host=1/disk=1,walltime=2:0:0", "types": ["noop"]}
    number = int(sites.api.post("/sites/east/jobs", body, sites.deadline())["uid"])
    sites.lab.advance(30)
    taken = sites.lab.oars["east"].job(number)
    assert taken.state == "Running" and not taken.nodes
    ends = taken.started_at + taken.walltime
    (option,) = plan(sites, Wish((RoleNodes("r", 3),), HOUR)).options
    assert option.start == sites.lab.hand.now
    (option,) = plan(sites, Wish((RoleNodes("r", 2, disks=True), RoleNodes("other", 1)), HOUR)).options
    assert option.start == sites.lab.hand.now
    role = RoleNodes("r", 3, disks=True)
    (option,) = plan(sites, Wish((role,), HOUR)).options
    assert option.start == ends + SECURITY
    held = sites.reserve(Request(site="east", roles=(role,), walltime=HOUR, run="run-1"))
    sites.lab.advance(70)
    again = r.resume(sites.api, held.record, sites.records, sites.deadline())
    assert again is not None and again.job.scheduled_at == option.start


def test_what_is_needed_of_nodes_is_the_same_in_reference_data_and_for_the_site(sites: World) -> None:
    needs = Needs(cores=2, memory=0.5, disk="SSD", network_rate=1, architecture="x86_64", wattmeter=True)
    role = RoleNodes("measured", 1, properties=needs.condition())
    east = Request(site="east", roles=(role,), walltime=HOUR, run="run-1")
    inventory.check_exists(sites.api, east, sites.deadline())
    running = sites.running(east)
    assert r.assign(sites.api, running, sites.deadline()) == {"measured": running.nodes}
    wish = Wish((role,), HOUR)
    assert [option.site for option in plan(sites, wish, homes=("east", "west")).options] == ["east"]
    west = replace(east, site="west", run="run-2")
    with pytest.raises(NoResources, match="asks for 1 and gets 0"):
        inventory.check_exists(sites.api, west, sites.deadline())
    with pytest.raises(NoResources, match="not that many nodes of this kind"):
        sites.reserve(west)
    for more in (Needs(gpus=1), Needs(gpu_model="A100"), Needs(disk="HDD"), Needs(memory=512), Needs(network_rate=25)):
        role = RoleNodes("measured", 1, properties=more.condition())
        with pytest.raises(NoResources, match="gets 0"):
            inventory.check_exists(sites.api, replace(east, roles=(role,)), sites.deadline())
        with pytest.raises(NoResources):
            sites.reserve(replace(east, roles=(role,), run="run-3"))
    assert sites.records.unreleased(run="run-3") == []


@pytest.mark.parametrize(("kind", "vlan"), [("local", "1"), ("global", "10")])
def test_kinds_of_vlans(sites: World, kind: str, vlan: str) -> None:
    request = Request(site="east", roles=(RoleNodes("server", 1),), walltime=HOUR, vlan=kind, exclude=("vmeast-1",))
    running = sites.running(request)
    assert running.job.vlans == (vlan,)
    assert running.nodes == ("vmeast-2.east.grid5000.fr",)
