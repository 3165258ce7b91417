"""What a node is made of and where its addresses are, so that its description says the truth about its machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LOCAL_VLANS = (1, 2, 3)


@dataclass(frozen=True)
class NodeHardware:
    """One kind of machine; memory and disk in bytes, rate in bit/s, clock in Hz."""

    cores: int = 1
    memory: int = 1024 * 2**20
    disk: int = 10 * 10**9
    processor: str = "QEMU Virtual CPU"
    vendor: str = "QEMU"
    clock: int = 2_000_000_000
    nic_driver: str = "virtio_net"
    nic_name: str = "ens3"
    nic_rate: int = 1_000_000_000
    disk_model: str = "QEMU HARDDISK"
    disk_interface: str = "virtio"
    chassis: str = "Standard PC (Q35 + ICH9, 2009)"
    gpus: int = 0
    more_disks: int = 0
    """Disks beside the system's, which can be reserved."""
    more_cards: int = 0
    """Network cards beside the one of the production network, which can be put into VLANs."""


@dataclass(frozen=True)
class SiteNetwork:
    """Addresses of a site: node N of cluster C and its VLANs; networks as text, so that they can be changed singly."""

    production: str = "172.16.64.0/20"
    frontend: str = "172.16.79.106"
    gateway: str = "172.16.79.254"
    local_vlans: str = "192.168.192.0/20"
    routed_vlans: str = "10.56.0.0/14"
    subnets: str = "10.188.0.0/14"
    own_global: int = 10
    mac_prefix: str = "52:54:00:05"

    @classmethod
    def described(cls, site: Mapping[str, Any]) -> SiteNetwork:
        """The VLANs and subnets that a site's document tells of; what it does not tell is as in the lab's own site."""
        told = {
            "own_global": (site.get("ipv6") or {}).get("site_global_kavlan"),
            "subnets": (site.get("g5ksubnet") or {}).get("network"),
        }
        return cls(**{name: value for name, value in told.items() if value})

    @property
    def index(self) -> int:
        """The site's number in the plan of IPv6 addresses, from 1."""
        return self.own_global - 9

    def node(self, number: int, cluster: int = 0) -> str:
        """The production address of a node (numbers from 1)."""
        return str(ipaddress.ip_network(self.production)[cluster * 256 + number])

    def mac(self, number: int, cluster: int = 0) -> str:
        """The hardware address of a node's first interface."""
        return (
            f"{self.mac_prefix}:{cluster:02x}:{number:02x}" if number < 256 else self.mac(number - 255, cluster + 128)
        )

    def servers(self) -> dict[str, str]:
        """The addresses of the site's servers beside the frontend: its name server, and the gateways of local VLANs."""
        return {"dns": self.gateway, **{f"kavlan-{vlan}": self.frontend for vlan in LOCAL_VLANS}}

    def vlan(self, vlan: int) -> ipaddress.IPv4Network:
        """The network of a VLAN: /20 for local ones (1-3), /18 for routed and global ones."""
        if vlan <= 3:
            first = ipaddress.ip_network(self.local_vlans)
            return ipaddress.IPv4Network((int(first.network_address) + (vlan - 1) * 2**12, 20))
        first = ipaddress.ip_network(self.routed_vlans)
        return ipaddress.IPv4Network((int(first.network_address) + (vlan - 4) * 2**14, 18))

    def network6(self, vlan: int | None = None) -> ipaddress.IPv6Network:
        """The IPv6 network of a VLAN, or of production, as Grid'5000 numbers them; nothing in a lab has such an address."""
        routed = 0xA0 if vlan == self.own_global else 0x90 + (vlan or 0) - 4
        place = 0 if vlan is None else 0x7F + vlan if vlan in LOCAL_VLANS else routed
        return ipaddress.IPv6Network(f"2001:660:4406:{self.index:x}{place:02x}::/64")

    def node6(self, number: int, cluster: int = 0, card: int = 0) -> str:
        """The IPv6 address that a node has by the plan."""
        return str(self.network6()[((cluster + 1) << 48) + (card << 32) + number])

    def node_in(self, vlan: int, number: int, cluster: int = 0) -> str:
        """The address of a node in a VLAN."""
        return str(self.vlan(vlan)[cluster * 256 + number])

    @property
    def subnet_gateway(self) -> str:
        """The site's own address in the network of the subnets, their router."""
        return str(ipaddress.IPv4Network(self.subnets)[-2])

    def subnet_list(self) -> list[str]:
        """The /22 networks that can be reserved: those of the first three /16 networks."""
        blocks = list(ipaddress.IPv4Network(self.subnets).subnets(new_prefix=16))[:3]
        return [str(one) for block in blocks for one in block.subnets(new_prefix=22)]
