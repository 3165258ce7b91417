"""Reference data that the project makes itself: the lab's own site, and a world of the real one's size."""

from __future__ import annotations

import email.utils
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from g5kdeploy.lab.reference.hardware import LOCAL_VLANS, NodeHardware, SiteNetwork
from g5kdeploy.lab.reference.tree import Reference, Tree, commit, put

EPOCH = 1_767_225_600  # 2026-01-01, when generated data is dated
ROUTED = tuple(range(4, 10))
MACHINE = NodeHardware()
BACKBONE = "renater-hub"
_BACKBONE_RATE = 10_000_000_000
_CARDS = 100  # how far the addresses of a node's network cards are apart
_EXPORTED = (
    "node_load1",
    "node_cpu_seconds_total",
    "node_memory_MemAvailable_bytes",
    "node_network_receive_bytes_total",
)
_WATTS = {
    "description": "Power consumption of node reported by wattmetre, in watt",
    "name": "wattmetre_power_watt",
    "optional_period": 20,
    "period": 1000,
    "source": {"protocol": "wattmetre"},
}
NETWORK = SiteNetwork()


@dataclass(frozen=True)
class ClusterPlan:
    """A cluster to describe: its name, its nodes and who may use it."""

    uid: str
    nodes: int
    hardware: NodeHardware = MACHINE
    queues: tuple[str, ...] = ("admin", "default")
    exotic: bool = False
    arch: str = "x86_64"
    boot: str = "bios"
    max_walltime: int = 0
    wattmeter: bool = False


def lab_site(
    nodes: int = 4,
    hardware: NodeHardware = MACHINE,
    network: SiteNetwork = NETWORK,
    *,
    site: str = "lab",
    cluster: str = "vm",
    now: float = EPOCH,
) -> Reference:
    """The lab's own site: one cluster of QEMU machines, `vm-1` to `vm-N`."""
    tree = world([(site, network, [ClusterPlan(cluster, nodes, hardware)])])
    return Reference({"master": [commit(tree, EPOCH, f"[{site}] initial import")]}, now)


def big_world(nodes: int = 939, sites: int = 11, *, now: float = EPOCH) -> Reference:
    """A world of many sites, clusters, queues and architectures; the same one for the same numbers."""
    plans: list[tuple[str, SiteNetwork, list[ClusterPlan]]] = []
    left = nodes
    for at in range(sites):
        share = left // (sites - at)
        left -= share
        plans.append((f"site{at + 1}", _network_of(at), _clusters_of(at, share)))
    return Reference({"master": [commit(world(plans), EPOCH, "generated world")]}, now)


def _network_of(at: int) -> SiteNetwork:
    return SiteNetwork(
        production=f"172.{16 + at // 4}.{at % 4 * 64}.0/18",
        frontend=f"172.{16 + at // 4}.{at % 4 * 64 + 63}.106",
        gateway=f"172.{16 + at // 4}.{at % 4 * 64 + 63}.254",
        routed_vlans=f"10.{at * 4}.0.0/14",
        subnets=f"10.{128 + at * 4}.0.0/14",
        own_global=10 + at,
        mac_prefix=f"52:54:{at:02x}:00",
    )


def _clusters_of(at: int, nodes: int) -> list[ClusterPlan]:
    """Clusters of growing size until the nodes of the site are used up; queues, sizes and architectures vary."""
    names = ("alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel", "ivy", "juniper", "kapok", "larch")
    plans: list[ClusterPlan] = []
    number = 0
    while nodes > 0:
        size = min(nodes, 2 + (at * 7 + number * 5) % 30)
        nodes -= size
        kind = (at + number) % 6
        plans.append(
            ClusterPlan(
                f"{names[number % len(names)]}{at + 1 if number < len(names) else (at + 1) * 100 + number}",
                size,
                NodeHardware(
                    cores=(16, 32, 52, 64, 128, 40)[kind],
                    memory=(64, 128, 192, 256, 384, 768)[kind] * 2**30,
                    disk=(480, 960, 1920)[kind % 3] * 10**9,
                    processor=(
                        "Xeon E5-2630 v3",
                        "Xeon Gold 5218",
                        "Xeon Gold 5320",
                        "EPYC 7452",
                        "EPYC 7742",
                        "Xeon Gold 6126",
                    )[kind],
                    vendor=("Intel", "Intel", "Intel", "AMD", "AMD", "Intel")[kind],
                    nic_driver="ixgbe",
                    nic_name="eno1",
                    nic_rate=(1, 10, 25)[kind % 3] * 10**9,
                    disk_model="SSDSC2KB",
                    disk_interface="SATA",
                    chassis="Server",
                    gpus=4 if kind == 4 else 0,
                ),
                queues=(("admin", "default"), ("abaca", "admin", "production"), ("admin", "default"), ("testing",))[
                    (at + number) % 4
                ],
                exotic=kind == 5,
                arch="aarch64" if kind == 5 and number % 2 else "x86_64",
                boot="uefi" if kind % 2 else "bios",
            )
        )
        number += 1
    return plans


def world(plans: Sequence[tuple[str, SiteNetwork, Sequence[ClusterPlan]]]) -> Tree:
    """The tree of documents for sites with their networks and clusters."""
    tree: Tree = {}
    put(tree, "grid5000", {"type": "grid", "uid": "grid5000"})
    nodesets: dict[str, Any] = {}
    for site, network, clusters in plans:
        put(tree, f"sites/{site}/{site}", site_document(site, network))
        for uid, address in {f"f{site}": network.frontend, **network.servers()}.items():
            put(tree, f"sites/{site}/servers/{uid}", server_document(uid, address))
        put(tree, f"sites/{site}/network_equipments/gw", switch_document(site, network, clusters))
        put(tree, f"sites/{site}/pdus/pdu-1", {"type": "pdu", "uid": "pdu-1", "vendor": "lab", "model": "virtual"})
        for at, plan in enumerate(clusters):
            put(tree, f"sites/{site}/clusters/{plan.uid}/{plan.uid}", cluster_document(plan, at))
            for number in range(1, plan.nodes + 1):
                node = node_document(site, plan, number, at, network)
                put(tree, f"sites/{site}/clusters/{plan.uid}/nodes/{plan.uid}-{number}", node)
            nodesets[plan.uid] = {"p1": {"ggas": [], "sites": [site]}}
    put(tree, f"network_equipments/{BACKBONE}", backbone_document([site for site, _, _ in plans]))
    put(tree, "accesses/nodesets", nodesets)
    return tree


def site_document(site: str, network: SiteNetwork) -> dict[str, Any]:
    """What the reference says of a site."""
    return {
        "compilation_server": False,
        "description": f"Site {site}",
        "email_contact": "root@localhost",
        "frontend_ip": network.frontend,
        "g5ksubnet": {"gateway": network.subnet_gateway, "network": network.subnets},
        "kavlan_ip_range": network.routed_vlans,
        "ipv6": {
            "prefix": str(network.network6().supernet(new_prefix=56)),
            "site_global_kavlan": network.own_global,
            "site_index": network.index,
        },
        "kavlans": {
            **{str(vlan): _vlan(network, vlan) for vlan in _vlans(network)},
            "default": {
                "gateway": network.gateway,
                "network": network.production,
                "network_ipv6": str(network.network6()),
            },
        },
        "latitude": 48.1,
        "location": site.capitalize(),
        "longitude": -1.7,
        "name": site.capitalize(),
        "production": True,
        "scheduler": "oar",
        "type": "site",
        "uid": site,
        "virt_ip_range": network.subnets,
        "web": "http://localhost",
    }


def _vlans(network: SiteNetwork) -> tuple[int, ...]:
    """The VLANs that a site has of its own."""
    return (*LOCAL_VLANS, *ROUTED, network.own_global)


def _vlan(network: SiteNetwork, vlan: int) -> dict[str, str]:
    """What the reference says of a VLAN's addresses."""
    own = network.vlan(vlan)
    return {"gateway": str(own[-2]), "network": str(own), "network_ipv6": str(network.network6(vlan))}


def server_document(uid: str, address: str) -> dict[str, Any]:
    """What the reference says of a server of the site."""
    return {
        "kind": "virtual",
        "network_adapters": {"default": {"ip": address}},
        "status": "production",
        "type": "server",
        "uid": uid,
    }


def switch_document(site: str, network: SiteNetwork, clusters: Sequence[ClusterPlan]) -> dict[str, Any]:
    """What the reference says of the site's switch and router: its VLANs, and a line card with the nodes and the backbone.

    Line cards and ports are counted from 1.
    """
    ports = [
        {"kind": "node", "port": card["device"], "uid": uid}
        for at, plan in enumerate(clusters)
        for uid, cards in ((f"{plan.uid}-{n}", _cards(site, plan, n, at, network)) for n in range(1, plan.nodes + 1))
        for card in cards
    ]
    return {
        "backplane_bps": 10_000_000_000,
        "ip": network.gateway,
        "kind": "router",
        "linecards": [
            {},
            {
                "kind": "node",
                "naming_pattern": "%LINECARD%/%PORT%",
                "ports": [{}, *ports, {"kind": "virtual", "rate": _BACKBONE_RATE, "uid": BACKBONE}],
                "rate": 1_000_000_000,
            },
        ],
        "model": "virtual",
        "site": site,
        "type": "network_equipment",
        "uid": "gw",
        "vlans": {
            "vlan100": {"addresses": [network.gateway]},
            **{
                f"vlan{700 + vlan}": {"addresses": [str(network.vlan(vlan))], "name": f"kavlan-{vlan}"}
                for vlan in _vlans(network)
            },
        },
    }


def backbone_document(sites: Sequence[str]) -> dict[str, Any]:
    """What the reference says of the network between the sites: one equipment with a port for each site's router."""
    ports = [{"kind": "router", "site_uid": site, "uid": f"gw-{site}"} for site in sites]
    return {
        "kind": "virtual",
        "linecards": [{"ports": ports, "rate": _BACKBONE_RATE}],
        "type": "network_equipment",
        "uid": BACKBONE,
    }


def cluster_document(plan: ClusterPlan, at: int) -> dict[str, Any]:
    """What the reference says of a cluster."""
    made = EPOCH - 86_400 * (365 + 31 * at)
    gib = plan.hardware.memory // 2**30
    return {
        "boot_type": plan.boot,
        "created_at": email.utils.formatdate(made, usegmt=True),
        "exotic": plan.exotic,
        "kavlan": True,
        "manufactured_at": "2025-01-01",
        "metrics": [
            {
                "description": "Default subset of metrics from Prometheus Node Exporter",
                "name": "prom_default_metrics",
                "optional_period": 15000,
                "period": 0,
                "source": {"id": list(_EXPORTED), "port": 9100, "protocol": "prometheus"},
            },
            {
                "description": "All metrics from Prometheus Node Exporter",
                "name": "prom_all_metrics",
                "optional_period": 15000,
                "period": 0,
                "source": {"port": 9100, "protocol": "prometheus"},
            },
            *([_WATTS] if plan.wattmeter else []),
        ],
        "model": plan.hardware.chassis,
        "nodes_count": plan.nodes,
        "nodes_description": f"1 CPU {plan.hardware.processor}, {plan.hardware.cores} cores/CPU, {gib}GB RAM",
        "priority": 202500 + at,
        "queues": list(plan.queues),
        "redfish": False,
        "type": "cluster",
        "uid": plan.uid,
        "warranty_end": "2030-01-01",
    }


def node_document(site: str, plan: ClusterPlan, number: int, at: int, network: SiteNetwork) -> dict[str, Any]:
    """What the reference says of a node; every figure is one that its machine would confirm."""
    hardware, uid = plan.hardware, f"{plan.uid}-{number}"
    found: dict[str, Any] = {
        "architecture": {
            "cpu_core_numbering": "contiguous",
            "nb_cores": hardware.cores,
            "nb_procs": 1,
            "nb_threads": hardware.cores,
            "platform_type": plan.arch,
        },
        "bios": {"vendor": "SeaBIOS", "version": "1.16"},
        "chassis": {"manufacturer": hardware.vendor, "name": hardware.chassis, "serial": "0"},
        "exotic": plan.exotic,
        "kavlan": {
            f"eth{card}": {
                f"kavlan-{vlan}": network.node_in(vlan, number + _CARDS * card, at) for vlan in _vlans(network)
            }
            for card in range(1 + hardware.more_cards)
        },
        "main_memory": {"ram_size": hardware.memory},
        "management_tools": {"bmc_vendor_tool": "none"},
        "memory_devices": [{"device": "dimm_0", "size": hardware.memory, "technology": "dram"}],
        "network_adapters": _cards(site, plan, number, at, network),
        "nodeset": plan.uid,
        "operating_system": {"ht_enabled": False, "turboboost_enabled": False},
        "performance": {"core_flops": hardware.clock * 4, "node_flops": hardware.clock * 4 * hardware.cores},
        "processor": {
            "clock_speed": hardware.clock,
            "instruction_set": "x86-64" if plan.arch == "x86_64" else plan.arch,
            "microarchitecture": "virtual",
            "model": hardware.processor.split()[0],
            "other_description": hardware.processor,
            "vendor": hardware.vendor,
            "version": hardware.processor,
        },
        "redfish": False,
        "software": {"standard-environment": "debian12-std"},
        "storage_devices": [
            {
                "by_id": "",
                "by_path": f"/dev/disk/by-path/pci-0000:00:{4 + number:02x}.0",
                "id": f"disk{number}",
                "interface": hardware.disk_interface,
                "model": hardware.disk_model,
                "size": hardware.disk,
                "storage": "SSD",
                "vendor": hardware.vendor,
                **({"reservation": True} if number else {}),
            }
            for number in range(1 + hardware.more_disks)
        ],
        "supported_job_types": {
            "besteffort": True,
            "deploy": True,
            "max_walltime": plan.max_walltime,
            "queues": list(plan.queues),
            "virtual": "none",
        },
        "type": "node",
        "uid": uid,
    }
    if hardware.gpus:
        found["gpu_devices"] = {
            f"gpu{one}": {"device": f"/dev/gpu{one}", "model": "virtual", "vendor": "lab", "memory": 16 * 2**30}
            for one in range(hardware.gpus)
        }
    return found


def _cards(site: str, plan: ClusterPlan, number: int, at: int, network: SiteNetwork) -> list[dict[str, Any]]:
    """What the reference says of a node's network cards; the first one is the production network's."""
    hardware, uid = plan.hardware, f"{plan.uid}-{number}"
    name, first = hardware.nic_name[:-1], int(hardware.nic_name[-1])
    ports = 1 + hardware.more_cards
    return [
        {
            "device": f"eth{card}",
            "driver": hardware.nic_driver,
            "enabled": True,
            "interface": "Ethernet",
            "ip": network.node(number + _CARDS * card, at),
            "ip6": network.node6(number, at, card),
            "kavlan": True,
            "mac": network.mac(number + _CARDS * card, at),
            "management": False,
            "mountable": True,
            "mounted": card == 0,
            "name": f"{name}{first + card}",
            "network_address": f"{uid}{f'-eth{card}' if card else ''}.{site}.grid5000.fr",
            "rate": hardware.nic_rate,
            "sriov": False,
            "switch": "gw",
            "switch_port": str((number - 1) * ports + card + 1),
        }
        for card in range(ports)
    ]
