"""The state of a site's or a cluster's resources, with the jobs that have or await them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from g5kdeploy.lab.api.answer import Document
from g5kdeploy.lab.api.call import Call, HttpError, any_of, no_null
from g5kdeploy.lab.api.jobs import described
from g5kdeploy.lab.api.reference import look_up
from g5kdeploy.lab.api.ruby import blank, no_method
from g5kdeploy.lab.oar import Job, Resource

KINDS = {
    "disk": "disks",
    "kavlan": "vlans",
    "kavlan-local": "vlans",
    "kavlan-global": "vlans",
    "subnet": "subnets",
    "default": "nodes",
}
HELD_BACK = ("waiting",)


@dataclass
class Seen:
    """What was gathered of one node, disk, VLAN or subnet."""

    shown: dict[str, Any]
    cores: int = 0
    busy: int = 0
    besteffort: int = 0
    running: bool = False
    reservations: list[dict[str, Any]] = field(default_factory=list)


def of_site(call: Call, site: str) -> Document:
    """The status of all that the site has, but of clusters that the reference does not know."""
    query = dict(call.params)
    if call.anonymous:
        query.update(job_details="no", waiting="no")
    address = query.get("network_address")
    if address is not None:
        clusters: set[Any] = {_cluster_of(address)}
    else:
        found = look_up(call, f"/sites/{site}/clusters", many="")
        if found is None:
            line = "      valid_clusters = site_clusters['items'].map { |i| i['uid'] }"
            raise HttpError(500, no_method("[]", line, "['items']"))
        if isinstance(found[1]["items"], dict):  # a deep answer
            raise HttpError(500, "no implicit conversion of String into Integer")
        clusters = {item["uid"] for item in found[1]["items"]}
    wanted = {kind for kind in KINDS.values() if query.get(kind) != "no"}
    links = [call.link("self", f"/sites/{site}/status"), call.link("parent", f"/sites/{site}")]
    return _answer(call, site, links, wanted, clusters, query)


def _cluster_of(address: Any) -> Any:
    """The cluster of a node's address; a list is taken for one name, which no cluster has."""
    if isinstance(address, dict):
        line = "      valid_clusters = [params[:network_address].split('-').first]"
        raise HttpError(500, no_method("split", line, ".split", address))
    return str(address) if isinstance(address, list) else address.split("-")[0] or None


def of_cluster(call: Call, site: str, cluster: str) -> Document:
    """The status of a cluster: its nodes and their disks."""
    where = f"/sites/{site}/clusters/{cluster}"
    wanted = {"nodes", "disks"} if call.params.get("disks") != "no" else {"nodes"}
    links = [call.link("self", f"{where}/status"), call.link("parent", where)]
    return _answer(call, site, links, wanted, {cluster}, call.params)


def _answer(
    call: Call, site: str, links: list[dict[str, str]], wanted: set[str], clusters: set[Any], query: dict[str, Any]
) -> Document:
    scheduler = call.scheduler(site)
    address = query.get("network_address")
    no_null(address)
    resources = [
        one
        for one in scheduler.resources()
        if KINDS.get(one.type) in wanted
        and one.properties.get("cluster") in {*clusters, None}
        and (blank(address) or not {one.address, one.properties.get("host")}.isdisjoint(any_of(address)))
    ]
    jobs = [job for job in scheduler.current() if query.get("waiting") != "no" or job.state.lower() not in HELD_BACK]
    shown: dict[str, Any] = {"uid": int(call.services.clock.wall()), "links": links}
    shown.update({kind: {} for kind in KINDS.values() if kind in wanted})
    gathered = gather(resources, jobs)
    details = query.get("job_details") != "no"
    for (kind, name), seen in gathered.items():
        shown[kind][name] = conclude(kind, seen, details)
    return Document(shown)


def gather(resources: Iterable[Resource], jobs: Iterable[Job]) -> dict[tuple[str, str], Seen]:
    """Resources by kind and name, with what the jobs do on them."""
    found: dict[tuple[str, str], Seen] = {}
    by_id: dict[int, tuple[str, str]] = {}
    for one in resources:
        key = (KINDS[one.type], name_of(one))
        by_id[one.id] = key
        found.setdefault(key, Seen(_initial(one))).cores += 1
    for job in jobs:
        shown = described(job, events=False)
        touched: set[tuple[str, str]] = set()
        for resource in job.resources:
            if (at := by_id.get(resource.id)) is None:
                continue
            seen = found[at]
            if job.state == "Running":
                seen.running = True
                seen.busy += 1
                seen.besteffort += job.queue == "besteffort"
            if at not in touched:
                seen.reservations.append(shown)
                touched.add(at)
    return found


def name_of(one: Resource) -> str:
    """The name that the API has for a resource."""
    properties = one.properties
    if one.type == "default":
        return one.address
    if one.type == "disk":
        return f"{str(properties.get('disk', '')).split('.')[0]}.{properties.get('host') or one.address}"
    if one.type == "subnet":
        return f"{properties.get('subnet_address')}/{properties.get('subnet_prefix')}"
    return str(properties.get("vlan", one.id))


def _initial(one: Resource) -> dict[str, Any]:
    shown: dict[str, Any] = {"hard": one.state.lower()}
    if one.type == "default":
        shown["soft"] = "unknown" if one.state == "Dead" else "free"
        shown["comment"] = one.properties.get("comment")
    elif one.type == "disk":
        shown.update(soft="free", diskpath=one.properties.get("diskpath"))
    elif one.type == "subnet":
        shown["soft"] = "free"
    else:
        shown.update(soft="free", type=one.type)
    return shown


def conclude(kind: str, seen: Seen, details: bool) -> dict[str, Any]:
    """The final status of one thing."""
    shown = seen.shown
    if details:
        shown["reservations"] = seen.reservations
    if kind != "nodes":
        if seen.running:
            shown["soft"] = "busy"
        return shown
    if seen.busy:
        if seen.busy <= seen.cores // 2:
            shown["soft"] = "free_busy"
        else:
            shown["soft"] = "busy_free" if seen.busy < seen.cores else "busy"
        if seen.besteffort:
            shown["soft"] += "_besteffort"
    if shown["soft"] == "unknown":
        shown.update(free_slots=0, freeable_slots=0, busy_slots=0)
    else:
        shown.update(
            free_slots=seen.cores - seen.busy,
            freeable_slots=seen.besteffort,
            busy_slots=seen.busy - seen.besteffort,
        )
    return shown
