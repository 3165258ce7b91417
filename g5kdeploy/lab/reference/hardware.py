"""What a node is made of and where its addresses are, so that its description says the truth about its machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


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

    def node(self, number: int, cluster: int = 0) -> str:
        """The production address of a node (numbers from 1)."""
        return str(ipaddress.ip_network(self.production)[cluster * 256 + number])

    def mac(self, number: int, cluster: int = 0) -> str:
        """The hardware address of a node's first interface."""
        return (
            f"{self.mac_prefix}:{cluster:02x}:{number:02x}" if number < 256 else self.mac(number - 255, cluster + 128)
        )

    def vlan(self, vlan: int) -> ipaddress.IPv4Network:
        """The network of a VLAN: /20 for local ones (1-3), /18 for routed and global ones."""
        if vlan <= 3:
            first = ipaddress.ip_network(self.local_vlans)
            return ipaddress.IPv4Network((int(first.network_address) + (vlan - 1) * 2**12, 20))
        first = ipaddress.ip_network(self.routed_vlans)
        return ipaddress.IPv4Network((int(first.network_address) + (vlan - 4) * 2**14, 18))

    def node_in(self, vlan: int, number: int, cluster: int = 0) -> str:
        """The address of a node in a VLAN."""
        return str(self.vlan(vlan)[cluster * 256 + number])

    def subnet_list(self, count: int = 8) -> list[str]:
        """The first /22 networks that can be reserved."""
        return [str(one) for one, _ in zip(ipaddress.ip_network(self.subnets).subnets(new_prefix=22), range(count))]  # noqa: B905
