"""What a site has, from when, and what is ours: on the lab, and on a lab as large as the real testbed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import ExitCode, InvalidUse, NoResources, exit_code
from g5kdeploy.testbed import credentials, inventory
from g5kdeploy.testbed import reservations as r
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.request import RoleNodes
from tests.contract.scripted import Lab
from tests.contract.testbed_world import World, a_request, nodes


def test_mine_asks_the_site_and_not_the_disk(world: World) -> None:
    mine = world.reserve()
    foreign = world.by_hand()
    gone = world.records.known(world.records.ask(a_request(run="run-3"), world.api.uri), replace(mine.job, id=4711))
    found, trouble = inventory.mine(world.api, world.records, world.deadline())
    assert trouble == []
    assert {(one.job.id if one.job else None, one.record.name if one.record else None) for one in found} == {
        (mine.job.id, mine.record.name),
        (foreign, None),
        (None, gone.name),
    }


def test_a_dead_site_does_not_spoil_the_status(world: World) -> None:
    world.running(a_request(roles=nodes(1)))
    world.lab.oar.set_state("vm-4.lab.grid5000.fr", "Absent")
    live, dead = inventory.status(world.api, world.deadline(), ["lab", "nope"])
    assert live == inventory.SiteStatus("lab", 4, 2, 1, 1)
    assert dead.site == "nope"
    assert dead.problem


def test_more_nodes_than_exist(world: World) -> None:
    inventory.check_exists(world.api, a_request(), world.deadline())
    inventory.check_exists(world.api, a_request(roles=(RoleNodes("s", 4, cluster="vm"),)), world.deadline())
    with pytest.raises(NoResources, match="has 4 nodes for this reservation, and 5 are asked for") as caught:
        inventory.check_exists(world.api, a_request(roles=nodes(5)), world.deadline())
    assert exit_code(caught.value) == ExitCode.NO_RESOURCES
    for role in (RoleNodes("s", 1, cluster="nope"), RoleNodes("s", 1, properties="gpu_count > 0")):
        with pytest.raises(NoResources):
            inventory.check_exists(world.api, a_request(roles=(role,)), world.deadline())
    by_property = RoleNodes("s", 4, properties="cpuarch = 'x86_64' and memnode > 0")
    inventory.check_exists(world.api, a_request(roles=(by_property,)), world.deadline())
    with pytest.raises(InvalidUse, match="no site 'nope'"):
        inventory.check_exists(world.api, a_request(site="nope"), world.deadline())
    assert world.posts() == 0


def test_the_earliest_start(world: World) -> None:
    running = world.running(a_request(roles=nodes(3)))
    world.lab.oar.set_state("vm-4.lab.grid5000.fr", "Alive")

    def earliest(count: int) -> float | None:
        return inventory.earliest(world.api, a_request(roles=nodes(count)), world.deadline())

    assert earliest(1) == pytest.approx(world.lab.hand.now)
    assert running.job.ends_at is not None
    expected = earliest(2)
    assert expected == running.job.ends_at + 61
    waiting = world.reserve(a_request(run="run-2", roles=nodes(2)))
    world.lab.advance(70)
    again = r.resume(world.api, waiting.record, world.records, world.deadline())
    assert again is not None
    assert again.job.scheduled_at == expected
    assert earliest(5) is None


def test_roles_of_different_kinds_get_their_own_nodes(world: World) -> None:
    roles = (RoleNodes("any", 2), RoleNodes("named", 1, nodes=("vm-1",)), RoleNodes("cluster", 1, cluster="vm"))
    running = world.running(a_request(roles=roles))
    found = r.assign(world.api, running, world.deadline())
    assert found["named"] == ("vm-1.lab.grid5000.fr",)
    assert sorted(len(names) for names in found.values()) == [1, 1, 2]
    assert len({name for names in found.values() for name in names}) == 4


def test_hardware_for_the_run(world: World) -> None:
    running = world.running()
    found = inventory.hardware(world.api, running.nodes, world.deadline())
    assert list(found) == list(running.nodes)
    assert all(document["architecture"]["nb_cores"] == 2 and "links" not in document for document in found.values())


def test_a_site_of_a_large_testbed(big_lab: Lab) -> None:
    with Api(credentials.load(big_lab.home), clock=big_lab.clock) as api:
        deadline = Deadline.after(3600, "a large site", big_lab.clock)
        site = api.sites(deadline)[0]
        [found] = inventory.status(api, deadline, [site])
        assert found.nodes == found.free > 4
        wanted = a_request(site=site, roles=nodes(found.nodes))
        inventory.check_exists(api, replace(wanted, roles=nodes(1)), deadline)
        assert inventory.earliest(api, replace(wanted, roles=nodes(1)), deadline) == big_lab.hand.now
        with pytest.raises(NoResources, match="and 5000 are asked for"):
            inventory.check_exists(api, replace(wanted, roles=nodes(5000)), deadline)
