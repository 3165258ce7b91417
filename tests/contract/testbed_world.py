"""A client on the lab, and short words for what tests do with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.event import Emitter, Event
from g5kdeploy.lab.reference import NodeHardware, Reference, SiteNetwork, generate
from g5kdeploy.lab.reference.tree import commit
from g5kdeploy.testbed import reservations as r
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.records import Record, Records
from g5kdeploy.testbed.request import Request, RoleNodes
from tests.contract.scripted import TUESDAY, Lab


@dataclass
class World:
    lab: Lab
    api: Api
    records: Records
    events: list[Event]
    emit: Emitter

    def deadline(self, seconds: float = 7200) -> Deadline:
        return Deadline.after(seconds, "the test", self.lab.clock)

    def reserve(self, request: Request | None = None) -> r.Reservation:
        return r.reserve(self.api, request or a_request(), self.records, self.deadline(), self.emit)

    def wait(self, reservation: r.Reservation, seconds: float = 7200) -> r.Reservation:
        return r.wait_running(self.api, reservation, self.records, self.deadline(seconds), self.emit)

    def running(self, request: Request | None = None) -> r.Reservation:
        return self.wait(self.reserve(request))

    def release(self, name: str) -> Record:
        record = self.records.get(name)
        assert record is not None
        return r.release(self.api, record, self.records, self.deadline(), self.emit)

    def count(self, method: str, path: str) -> int:
        return sum(one == method and re.search(path, asked) is not None for one, asked in self.lab.faults.asked)

    def posts(self) -> int:
        return self.count("POST", "/sites/lab/jobs$")

    def live(self) -> list[int]:
        """The jobs that the scheduler has, as it knows them itself."""
        return [job.id for job in self.lab.oar.current()]

    def by_hand(self, **more: Any) -> int:
        """A job that something else submits."""
        body = {"command": "sleep 1d", "resources": "nodes=1,walltime=1:0:0", "types": ["deploy"], **more}
        return int(self.api.post("/sites/lab/jobs", body, self.deadline())["uid"])


def small_world(*sites: str, now: float = TUESDAY, platforms: tuple[str, ...] = ("x86_64",)) -> Reference:
    """Sites with one cluster `vmSITE` of three nodes (for each further platform one more).

    The first site has two disks in a node, and a wattmeter.
    """
    plans = []
    for number, site in enumerate(sites):
        hardware = NodeHardware(cores=2, more_disks=0 if number else 1)
        network = SiteNetwork(
            production=f"172.16.{16 * number}.0/20",
            routed_vlans=f"10.{4 * number}.0.0/14",
            subnets=f"10.{128 + 4 * number}.0.0/14",
            own_global=10 + number,
            mac_prefix=f"52:54:{number:02x}:00",
        )
        clusters = [
            generate.ClusterPlan(
                f"vm{site}{'' if arch == 'x86_64' else arch[:3]}", 3, hardware, arch=arch, wattmeter=number == 0
            )
            for arch in platforms
        ]
        plans.append((site, network, clusters))
    tree = generate.world(plans)
    return Reference({"master": [commit(tree, generate.EPOCH, "sites of a test")]}, now)


def a_request(**more: Any) -> Request:
    asked: dict[str, Any] = {"site": "lab", "walltime": 3600, "run": "run-1"}
    roles = (RoleNodes("server", 1), RoleNodes("client", 1))
    return Request(**{**asked, "roles": roles, **more})


def nodes(count: int) -> tuple[RoleNodes, ...]:
    return (RoleNodes("server", count),)
