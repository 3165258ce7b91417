"""Puts API, scheduler and site together: what the API needs, and what the scheduler asks of the machines."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab import fetch, inventory, kadeploy_command, kaenv, kaenv_command, reference, seed
from g5kdeploy.lab.accounts import Accounts
from g5kdeploy.lab.deployments import Deployments
from g5kdeploy.lab.kavlan import DEFAULT, Kavlan, usual_vlans
from g5kdeploy.lab.management import Management
from g5kdeploy.lab.network_command import Subnets, Vlans
from g5kdeploy.lab.oar import Hooks, Job, Oar, Resource, Scheduler
from g5kdeploy.lab.oar.admission import GRID5000
from g5kdeploy.lab.orders import UnluckyDeployer
from g5kdeploy.lab.reference import NodeHardware, Reference, SiteNetwork
from g5kdeploy.lab.reference.generate import EPOCH, ClusterPlan, world
from g5kdeploy.lab.reference.tree import commit
from g5kdeploy.lab.services import SiteServices
from g5kdeploy.lab.settings import Places, Settings
from g5kdeploy.lab.site import disk, images, jobs, names
from g5kdeploy.lab.site.deployer import BySite, Deployer, refusal
from g5kdeploy.lab.site.grid import Grid
from g5kdeploy.lab.site.images import Images
from g5kdeploy.lab.site.oar_command import OarCommands
from g5kdeploy.lab.site.site import Site
from g5kdeploy.lab.unmanned import Unmanned

DOWNLOAD_SECONDS = 300.0
PLAYED, LARGE = 2, NodeHardware(cores=4, memory=4 * 2**30, more_disks=2, more_cards=1)
"""How many nodes there are in a cluster whose nodes are not there, and what they would be."""


@dataclass(frozen=True)
class Composed:
    """What stands behind the API; schedulers are to be started and stopped, deployers to be stopped."""

    services: SiteServices
    oars: tuple[Oar, ...]
    deployers: tuple[Deployer, ...]
    nodes: list[str]
    """All nodes of the lab's sites, those too that are not there."""
    unlucky: UnluckyDeployer


def compose(places: Places, settings: Settings, grid: Grid) -> Composed:
    """Everything behind the API of a lab; nothing of it is started yet."""
    data = data_of(settings)
    known = [site.names for site in grid.sites.values()]
    kavlans = {name: _kavlan(places, site, data, known) for name, site in grid.sites.items()}
    deployers = {
        name: Deployer(site, Images(site, places.of(name) / "images"), settings.pace)
        for name, site in grid.sites.items()
    }
    unlucky = UnluckyDeployer(BySite(deployers))
    oars = {}
    for name, site in grid.sites.items():
        oar = oars[name] = Oar(
            places.of(name) / "oar.sqlite",
            inventory.resources(data, name, site.names.network),
            pace=settings.pace,
            hooks=_hooks(site, kavlans[name], deployers[name], unlucky),
            users=lambda user: user == settings.user,
            directories=lambda user, path, site=site: jobs.directory(site, path),  # type: ignore[misc]
            rules=GRID5000,
        )
    owners = {str(site.names.network.own_global): oars[name] for name, site in grid.sites.items()}
    for name, oar in oars.items():
        kavlans[name].holders = functools.partial(_holders, oar, owners)
    environments = kaenv.Environments(_registered(), places.folder / "environments.json")
    homes = {name: site.homes for name, site in grid.sites.items()}

    def rights(user: str, nodes: list[str]) -> bool:
        return services.may_deploy(user, nodes)

    deployments = Deployments(
        places.folder / "deployments.sqlite",
        unlucky,
        environments,
        rights=rights,
        kavlans=kavlans,
        fetch=fetch.from_homes(homes),
        refuses=refusal,
    )
    for name, site in grid.sites.items():
        site.commands.others["oar"] = OarCommands(
            oars[name], settings.user, time.time, functools.partial(jobs.contents, site, settings.user)
        )
        site.commands.others["kadeploy"] = kadeploy_command.Kadeploy(deployments, name, settings.user)
        site.commands.others["kaenv"] = kaenv_command.Kaenv(
            environments, settings.user, deployments.fetch, functools.partial(images.unreachable, site)
        )
        own = site.names
        site.commands.others["kavlan"] = Vlans(oars[name], kavlans[name], own.network, own.domain, settings.user)
        site.commands.others["subnets"] = Subnets(oars[name], own.network, own.domain)
    unmanned = others(data, settings.jobs)
    services = SiteServices(
        reference=data,
        oars={**unmanned, **oars},
        accounts=Accounts({settings.user: grid.password}, sites=tuple(_holders_of_nodes(data))),
        deployments=deployments,
        environments=environments,
        kavlans={**kavlans_of(data, unmanned), **kavlans},
        homes=homes,
        management=Management({name: site.nodes for name, site in grid.sites.items()}),
    )
    nodes = [f"{node['uid']}.{site.names.domain}" for name, site in grid.sites.items() for node in data.nodes(name)]
    return Composed(services, tuple(oars.values()), tuple(deployers.values()), nodes, unlucky)


def data_of(settings: Settings) -> Reference:
    """The reference data of the lab's own sites, beside the real one that the settings name."""
    booted = NodeHardware(cores=settings.cpus, memory=settings.memory * 2**20, disk=disk.SIZE)
    plans = []
    for one in names.SITES[: 1 + settings.sites]:
        played = [ClusterPlan(one.played, PLAYED, LARGE)] if one.played else []
        plans.append((one.site, one.network, [ClusterPlan(one.cluster, settings.nodes, booted), *played]))
    own = Reference({"master": [commit(world(plans), EPOCH, "initial import")]}, EPOCH)
    if not settings.reference:
        return own
    deadline = Deadline.after(DOWNLOAD_SECONDS, f"the reference data {settings.reference}")
    return reference.beside(own, reference.load_any(settings.reference, deadline))


def others(data: Reference, jobs: str | None = None) -> dict[str, Scheduler]:
    """Schedulers for the sites that the lab only knows from reference data; `jobs`: a file of what one of them has."""

    def resources_of(site: str) -> Callable[[], list[Resource]]:
        return lambda: inventory.resources(data, site, described(data, site))

    own = {one.site for one in names.SITES}
    found: dict[str, Scheduler] = {site: Unmanned(resources_of(site)) for site in data.sites() if site not in own}
    if jobs:
        entries = seed.read(Path(jobs))
        site = _site_of(data, found, seed.nodes_of(entries), jobs)
        everything = inventory.resources(data, site, described(data, site))
        found[site] = seed.StoredJobs(lambda: everything, seed.jobs(entries, everything, time.time()))
    return found


def described(data: Reference, site: str) -> SiteNetwork:
    """The networks of a site as its document tells of them."""
    return SiteNetwork.described(data.document(f"sites/{site}/{site}") or {})


def kavlans_of(data: Reference, sites: Iterable[str]) -> dict[str, Kavlan]:
    """The VLANs of sites that the lab only knows from reference data: nobody holds one, and nothing is in them."""
    known = {site: described(data, site).own_global for site in sites}
    return {
        site: Kavlan(
            usual_vlans(own, sorted({*known.values()} - {own})),
            dict.fromkeys(inventory.interfaces(data, site), DEFAULT),
        )
        for site, own in known.items()
    }


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


def _kavlan(places: Places, site: Site, data: Reference, sites: Sequence[names.Names]) -> Kavlan:
    def move(interface: str, vlan: str) -> None:
        if node := site.nodes.get(interface):
            site.network.move(node.index, None if vlan == DEFAULT else int(vlan))

    def dhcpd(vlan: str, action: str) -> None:
        if vlan != DEFAULT:
            site.network.dhcp(int(vlan), action == "start")

    kavlan = Kavlan(
        usual_vlans(site.names.network.own_global, [one.network.own_global for one in sites if one != site.names]),
        dict.fromkeys(inventory.interfaces(data, site.names.site), DEFAULT),
        on_move=move,
        on_dhcpd=dhcpd,
        store=places.of(site.names.site) / "kavlan.json",
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
        jobs.forget(site, job)

    return Hooks(
        on_launch=on_launch,
        on_end=on_end,
        run_command=lambda job, again: jobs.run(site, job, again),
        on_notice=lambda job, notice: jobs.tell(site, job, notice),
    )


def _running(oar: Oar, user: str | None = None) -> Iterable[Job]:
    return (job for job in oar.current() if job.state == "Running" and user in (None, job.user))


def _holders(own: Oar, owners: Mapping[str, Oar], vlan: str) -> list[str]:
    """Who holds a VLAN; a global one in a job of the site that it comes from, one of `owners`."""
    return [
        job.user
        for job in _running(owners.get(vlan, own))
        if any(one.type.startswith("kavlan") and str(one.properties.get("vlan")) == vlan for one in job.assigned)
    ]
