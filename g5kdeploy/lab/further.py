"""Sites beside the lab's own, to try reservations on several at once: their nodes are not there, all else is.

Jobs are scheduled, commands are played on the clock, deployments go through their steps in time; nobody can log in.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from g5kdeploy.base.problem import Problem
from g5kdeploy.lab import inventory
from g5kdeploy.lab.deployments import MACRO_STEPS, Deployer, Deployment, Report
from g5kdeploy.lab.kavlan import DEFAULT, Kavlan, usual_vlans
from g5kdeploy.lab.oar import Oar
from g5kdeploy.lab.oar.admission import GRID5000
from g5kdeploy.lab.reference import NodeHardware, Reference, SiteNetwork
from g5kdeploy.lab.reference.generate import EPOCH, ClusterPlan, world
from g5kdeploy.lab.reference.tree import commit
from g5kdeploy.lab.site import names

log = logging.getLogger(__name__)

NAMES = names.FURTHER
"""The first so many of them; each has the clusters `<name>a` of 4 nodes and `<name>b` of 2 with disks to reserve."""

STEP_SECONDS = 60.0
"""How long a macro step takes on such a node, at pace 1."""


def network(site: str) -> SiteNetwork:
    """The addresses of one of these sites; none is another's or the lab's."""
    at = NAMES.index(site)
    return SiteNetwork(
        production=f"172.{24 + at}.0.0/18",
        frontend=f"172.{24 + at}.63.106",
        gateway=f"172.{24 + at}.63.254",
        routed_vlans=f"10.{4 * at}.0.0/14",
        subnets=f"10.{128 + 4 * at}.0.0/14",
        own_global=11 + at,
        mac_prefix=f"52:54:{at + 1:02x}:00",
    )


def reference(count: int) -> Reference:
    """The reference data of the first `count` of these sites."""
    small, large = NodeHardware(cores=2), NodeHardware(cores=4, memory=4 * 2**30, more_disks=2)
    plans = [
        (site, network(site), [ClusterPlan(f"{site}a", 4, small), ClusterPlan(f"{site}b", 2, large)])
        for site in NAMES[:count]
    ]
    return Reference({"master": [commit(world(plans), EPOCH, "sites that are not there")]}, EPOCH)


def schedulers(data: Reference, count: int, folder: Path, pace: float, user: str) -> dict[str, Oar]:
    """A scheduler for each of them, not started yet."""
    return {
        site: Oar(
            folder / f"oar-{site}.sqlite",
            inventory.resources(data, site, network(site)),
            pace=pace,
            users=lambda name: name == user,
            rules=GRID5000,
        )
        for site in NAMES[:count]
    }


def kavlan(data: Reference, site: str, oar: Oar, folder: Path) -> Kavlan:
    """The VLANs of one of them."""
    nodes = [f"{node['uid']}.{site}.grid5000.fr" for node in data.nodes(site)]

    def holders(vlan: str) -> list[str]:
        return [
            job.user
            for job in oar.current()
            if job.state == "Running" and any(str(one.properties.get("vlan")) == vlan for one in job.assigned)
        ]

    return Kavlan(
        usual_vlans(network(site).own_global),
        dict.fromkeys(nodes, DEFAULT),
        holders=holders,
        store=folder / f"kavlan-{site}.json",
    )


class Played:
    """Deploys nothing, and says so step by step, as a deployer does that has nodes."""

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self._stopped: dict[str, threading.Event] = {}

    def start(self, deployment: Deployment, report: Report) -> None:
        """Begin, and return at once."""
        stopped = self._stopped[deployment.uid] = threading.Event()
        for node in map(str, deployment.nodes):
            thread = threading.Thread(
                target=self._one, args=(node, report, stopped), name=f"deploy {node}", daemon=True
            )
            thread.start()

    def _one(self, node: str, report: Report, stopped: threading.Event) -> None:
        step = MACRO_STEPS[0]
        try:
            for step in MACRO_STEPS:
                report(node, step, None, "reboot")
                if stopped.wait(STEP_SECONDS / self._pace):
                    raise Problem("the deployment was canceled")
        except Problem as problem:
            report(node, step, False, str(problem))
        else:
            report(node, step, True, "")

    def cancel(self, uid: str) -> None:
        """Give up on a deployment."""
        if stopped := self._stopped.pop(uid, None):
            stopped.set()

    def stop(self) -> None:
        """Give up on all."""
        for uid in list(self._stopped):
            self.cancel(uid)


class BySite:
    """Hands each deployment to the deployer of its site."""

    def __init__(self, own: Deployer, others: Mapping[str, Deployer]) -> None:
        self._own, self._others = own, others

    def start(self, deployment: Deployment, report: Report) -> None:
        """Begin, and return at once."""
        self._others.get(deployment.site_uid, self._own).start(deployment, report)

    def cancel(self, uid: str) -> None:
        """Give up on a deployment, whoever has it."""
        for one in (self._own, *set(self._others.values())):
            one.cancel(uid)
