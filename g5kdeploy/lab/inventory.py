"""OAR's resources for a site, made from its reference data: a resource for each core, disk, VLAN and subnet."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from g5kdeploy.lab.oar.model import Resource, Value
from g5kdeploy.lab.reference import Reference, SiteNetwork

_WATTMETERS = ("wattmetre_power_watt", "pdu_outlet_power_watt")
FAR_FUTURE = 2147483646  # OAR's "switched off, and usable whenever it is needed"


def resources(reference: Reference, site: str, network: SiteNetwork) -> list[Resource]:
    """All resources of a site, numbered from 1 in the order of clusters and nodes."""
    numbers = itertools.count(1)
    found: list[Resource] = []
    cpus = itertools.count(1)
    for cluster, node in _nodes(reference, site):
        address = f"{node['uid']}.{site}.grid5000.fr"
        common = _properties(cluster, node, address)
        architecture = node["architecture"]
        sockets, cores = int(architecture["nb_procs"]), int(architecture["nb_cores"])
        each = max(1, cores // sockets)
        for socket in range(sockets):
            cpu = next(cpus)
            for core in range(each):
                number = next(numbers)
                place: dict[str, Value] = {"cpu": cpu, "core": number, "cpuset": socket * each + core, "comment": "OK"}
                found.append(Resource(number, "default", address, {**common, **place}))
        for device in node.get("storage_devices", [])[1:]:  # the first one holds the system and comes with the node
            disk = {**common, "disk": f"{device['id']}.{node['uid']}", "diskpath": str(device.get("by_path", ""))}
            found.append(Resource(next(numbers), "disk", address, disk))
    for vlan in (*range(1, 10), network.own_global):
        kind = "kavlan-local" if vlan <= 3 else "kavlan" if vlan < 10 else "kavlan-global"
        found.append(Resource(next(numbers), kind, "", {"vlan": str(vlan)}))
    for subnet in map(ipaddress.ip_network, network.subnet_list()):
        blocks = {f"slash_{length}": str(subnet.supernet(new_prefix=length)) for length in range(16, 23)}
        place = {"subnet_address": str(subnet.network_address), "subnet_prefix": subnet.prefixlen}
        found.append(Resource(next(numbers), "subnet", "", {**blocks, **place}))
    return found


def interfaces(reference: Reference, site: str) -> list[str]:
    """The network cards of a site's nodes that can be put into VLANs, by the names that KaVLAN has for them."""
    return [
        str(card["network_address"])
        for _, node in _nodes(reference, site)
        for card in node.get("network_adapters", [])
        if card.get("kavlan") and not card.get("management")
    ]


def _nodes(reference: Reference, site: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Clusters with their nodes, nodes in the order of their numbers."""
    clusters = {cluster["uid"]: cluster for cluster in reference.documents(f"sites/{site}/clusters")}

    def place(node: Mapping[str, Any]) -> tuple[str, int]:
        cluster, _, number = str(node["uid"]).rpartition("-")
        return cluster, int(number) if number.isdigit() else 0

    for node in sorted(reference.nodes(site), key=place):
        yield clusters.get(place(node)[0], {"uid": place(node)[0]}), node


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def _properties(cluster: Mapping[str, Any], node: Mapping[str, Any], address: str) -> dict[str, Value]:
    """The properties of a node that filters use."""
    processor, architecture = node.get("processor", {}), node["architecture"]
    adapters = [card for card in node.get("network_adapters", []) if not card.get("management")]
    ethernet = [card for card in adapters if card.get("interface") == "Ethernet" and card.get("mountable", True)]
    devices = node.get("storage_devices", [])
    kinds = node.get("supported_job_types", {})
    gpus = node.get("gpu_devices") or {}
    queues = kinds.get("queues", cluster.get("queues", []))
    rates = [int(card.get("rate") or 0) for card in ethernet]
    return {
        "available_upto": FAR_FUTURE,
        "besteffort": _yes(kinds.get("besteffort", True)),
        "chassis": str(node.get("chassis", {}).get("name", "")),
        "cluster": str(cluster["uid"]),
        "cluster_priority": int(cluster.get("priority", 0)),
        "core_count": int(architecture["nb_cores"]),
        "cpu_count": int(architecture["nb_procs"]),
        "cpuarch": str(architecture.get("platform_type", "x86_64")),
        "cpucore": int(architecture["nb_cores"]) // max(1, int(architecture["nb_procs"])),
        "cputype": f"{processor.get('model', '')} {processor.get('version', '')}".strip(),
        "deploy": _yes(bool(kinds.get("deploy", True))),
        "disk_reservation_count": len(devices) - 1 if len(devices) > 1 else 0,
        "disktype": f"{devices[0].get('interface', '')}/{devices[0].get('storage', '')}" if devices else "",
        "eth_count": len(ethernet),
        "eth_kavlan_count": sum(bool(card.get("kavlan")) for card in ethernet),
        "eth_rate": max(rates, default=0) // 10**9,
        "exotic": _yes(bool(node.get("exotic"))),
        "gpu_count": len(gpus),
        "gpu_model": str(next(iter(gpus.values())).get("model", "")) if gpus else "",
        "host": address,
        "ib_count": 0,
        "maintenance": "NO",
        "max_walltime": int(kinds.get("max_walltime", 0)),
        "memnode": int(node.get("main_memory", {}).get("ram_size", 0)) // 2**20,
        "network_address": address,
        "nodemodel": str(node.get("chassis", {}).get("name", "")),
        "opa_count": 0,
        "production": _yes("production" in queues or "abaca" in queues),
        "switch": str(ethernet[0].get("switch") or "") if ethernet else "",
        "thread_count": int(architecture.get("nb_threads", 0)),
        "virtual": str(kinds.get("virtual") or "NO"),
        "wattmeter": _yes(any(one.get("name") in _WATTMETERS for one in cluster.get("metrics") or ())),
    }
