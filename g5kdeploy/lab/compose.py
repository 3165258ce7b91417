"""Puts API, scheduler and site together: what the API needs, and what the scheduler asks of the machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab import fetch, further, inventory, kaenv, kaenv_command, reference, seed
from g5kdeploy.lab.accounts import Accounts
from g5kdeploy.lab.deployments import Deployments
from g5kdeploy.lab.kavlan import DEFAULT, Kavlan, usual_vlans
from g5kdeploy.lab.oar import Hooks, Job, Oar, Resource, Scheduler
from g5kdeploy.lab.oar.admission import GRID5000
from g5kdeploy.lab.orders import UnluckyDeployer
from g5kdeploy.lab.reference import NodeHardware, Reference
from g5kdeploy.lab.services import SiteServices
from g5kdeploy.lab.settings import Places, Settings
from g5kdeploy.lab.site import disk, home, images, jobs, names
from g5kdeploy.lab.site.deployer import Deployer, refusal
from g5kdeploy.lab.site.site import Site
from g5kdeploy.lab.unmanned import Unmanned

DOWNLOAD_SECONDS = 300.0


@dataclass(frozen=True)
class Composed:
    """What stands behind the API, and the schedulers, which are to be started and stopped."""

    services: SiteServices
    oars: tuple[Oar, ...]
    others: list[str]
    """The nodes of further sites."""
    unlucky: UnluckyDeployer


def compose(places: Places, settings: Settings, site: Site, deployer: Deployer) -> Composed:
    """Everything behind the API of a lab; nothing of it is started yet."""
    data = data_of(settings)
    found = inventory.resources(data, names.SITE, names.NETWORK)
    kavlan = _kavlan(places, site)
    played = further.Played(settings.pace)
    unlucky = UnluckyDeployer(further.BySite(deployer, dict.fromkeys(further.NAMES[: settings.sites], played)))
    oar = Oar(
        places.folder / "oar.sqlite",
        found,
        pace=settings.pace,
        hooks=_hooks(site, kavlan, deployer, unlucky),
        users=lambda user: user == settings.user,
        directories=lambda user, path: jobs.directory(site, path),
        rules=GRID5000,
    )
    kavlan.holders = lambda vlan: _holders(oar, vlan)
    more = further.schedulers(data, settings.sites, places.folder, settings.pace, settings.user)
    kavlans = {names.SITE: kavlan}
    kavlans |= {name: further.kavlan(data, name, one, places.folder) for name, one in more.items()}
    environments = kaenv.Environments(_registered(), places.folder / "environments.json")

    def rights(user: str, nodes: list[str]) -> bool:
        return services.may_deploy(user, nodes)

    deployments = Deployments(
        places.folder / "deployments.sqlite",
        unlucky,
        environments,
        rights=rights,
        kavlans=kavlans,
        fetch=fetch.from_homes(places.homes, names.SITE),
        refuses=refusal,
    )
    site.commands.others["kaenv"] = kaenv_command.Kaenv(
        environments, settings.user, deployments.fetch, lambda url: images.unreachable(site, url)
    )
    secret = home.password(site.folder / "password")
    services = SiteServices(
        reference=data,
        oars={names.SITE: oar, **others(data, settings.jobs), **more},
        accounts=Accounts({settings.user: secret}, sites=tuple(_holders_of_nodes(data))),
        deployments=deployments,
        environments=environments,
        kavlans=kavlans,
        homes=places.homes,
    )
    nodes = [address for name in more for address in kavlans[name].interfaces]
    return Composed(services, (oar, *more.values()), nodes, unlucky)


def data_of(settings: Settings) -> Reference:
    """The reference data of the lab's own site, beside that of further sites and the real one that the settings name."""
    hardware = NodeHardware(cores=settings.cpus, memory=settings.memory * 2**20, disk=disk.SIZE)
    own = reference.lab_site(settings.nodes, hardware, names.NETWORK)
    if settings.sites:
        own = reference.beside(own, further.reference(settings.sites))
    if not settings.reference:
        return own
    deadline = Deadline.after(DOWNLOAD_SECONDS, f"the reference data {settings.reference}")
    return reference.beside(own, reference.load_any(settings.reference, deadline))


def others(data: Reference, jobs: str | None = None) -> dict[str, Scheduler]:
    """Schedulers for the sites that the lab only knows from reference data; `jobs`: a file of what one of them has."""

    def resources_of(site: str) -> Callable[[], list[Resource]]:
        return lambda: inventory.resources(data, site, names.NETWORK)

    found: dict[str, Scheduler] = {site: Unmanned(resources_of(site)) for site in data.sites() if site != names.SITE}
    if jobs:
        entries = seed.read(Path(jobs))
        site = _site_of(data, found, seed.nodes_of(entries), jobs)
        everything = inventory.resources(data, site, names.NETWORK)
        found[site] = seed.StoredJobs(lambda: everything, seed.jobs(entries, everything, time.time()))
    return found


def _site_of(data: Reference, sites: Iterable[str], wanted: set[str], jobs: str) -> str:
    """The site that has most of these nodes."""
    known = {site: sum(str(node["uid"]) in wanted for node in data.nodes(site)) for site in sites}
    site = max(known, key=lambda name: known[name], default="")
    if not known.get(site):
        raise Problem(f"the jobs of {jobs} are on nodes of no site of the reference data")
    return site


def _holders_of_nodes(data: Reference) -> set[str]:
    """The sites of groups that the reference data gives access to nodes."""
    nodesets = data.document("accesses/nodesets") or {}
    return {site for priorities in nodesets.values() for holders in priorities.values() for site in holders["sites"]}


def _registered() -> list[dict[str, Any]]:
    """The environments that have names; their images are written to the partition as they are."""
    found = []
    for image, name in images.SITES_IMAGES.items():
        described = kaenv.environment(name, image, description=f"Debian 12 of the lab ({name[9:]})")
        described["image"] = {"file": image, "kind": "dd", "compression": "none"}
        found.append(described)
    return found


def _kavlan(places: Places, site: Site) -> Kavlan:
    def move(interface: str, vlan: str) -> None:
        site.network.move(names.number(interface), None if vlan == DEFAULT else int(vlan))

    def dhcpd(vlan: str, action: str) -> None:
        if vlan != DEFAULT:
            site.network.dhcp(int(vlan), action == "start")

    kavlan = Kavlan(
        usual_vlans(names.NETWORK.own_global),
        dict.fromkeys(site.nodes, DEFAULT),
        on_move=move,
        on_dhcpd=dhcpd,
        store=places.folder / "kavlan.json",
    )
    for interface, vlan in kavlan.interfaces.items():  # as they were when the lab ended
        if vlan != DEFAULT:
            move(interface, vlan)
    return kavlan


def _hooks(site: Site, kavlan: Kavlan, deployer: Deployer, unlucky: UnluckyDeployer) -> Hooks:
    def on_launch(job: Job) -> Iterable[str]:
        unlucky.wake(job.nodes)
        return [] if "deploy" in job.types else site.open_for(job.nodes, job.user)

    def on_end(job: Job) -> None:
        deployer.abandon(job.nodes)
        vlans = [str(one.properties["vlan"]) for one in job.assigned if one.type.startswith("kavlan")]
        kavlan.reset([*job.nodes, *(name for vlan in vlans for name in kavlan.inside(vlan))])
        site.close_for(job.nodes, job.user, deployed="deploy" in job.types)

    return Hooks(on_launch=on_launch, on_end=on_end, run_command=lambda job, again: jobs.run(site, job, again))


def _running(oar: Oar, user: str | None = None) -> Iterable[Job]:
    return (job for job in oar.current() if job.state == "Running" and user in (None, job.user))


def _holders(oar: Oar, vlan: str) -> list[str]:
    return [
        job.user
        for job in _running(oar)
        if any(one.type.startswith("kavlan") and str(one.properties.get("vlan")) == vlan for one in job.assigned)
    ]
