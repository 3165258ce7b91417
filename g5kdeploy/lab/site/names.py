"""Names and addresses of the lab's sites. Their networks are namespaces of their own, so that every lab can have the same
ones.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from g5kdeploy.lab.reference.hardware import SiteNetwork

ACCESS = "access.grid5000.fr"


@dataclass(frozen=True)
class Names:
    """One site's. Its machines are the nodes of `cluster`, the first one of the site; those of `played` are not there."""

    site: str
    cluster: str
    network: SiteNetwork = SiteNetwork()  # noqa: RUF009 - it never changes
    played: str = ""

    @property
    def domain(self) -> str:
        return f"{self.site}.grid5000.fr"

    @property
    def frontend(self) -> str:
        return f"f{self.site}.{self.domain}"

    @property
    def frontend_names(self) -> tuple[str, ...]:
        """The frontend's names, its full one first."""
        short = f"f{self.site}"
        return self.frontend, short, f"frontend.{self.domain}", f"{short}.grid5000.fr", self.domain, self.site

    @property
    def public(self) -> str:
        return f"public.{self.domain}"

    @property
    def frontend_ip(self) -> str:
        return self.network.frontend

    @property
    def access_ip(self) -> str:
        """The address of the gateway, if it stands on this site."""
        return self._beside(1)

    @property
    def public_ip(self) -> str:
        return self._beside(2)

    def _beside(self, offset: int) -> str:
        return str(ipaddress.ip_address(self.frontend_ip) + offset)

    @property
    def line(self) -> tuple[str, str]:
        """The ends of its line to the lab's own site: the end there, and the one here."""
        base = ipaddress.ip_address("192.168.255.0") + 4 * self.network.own_global
        return str(base + 1), str(base + 2)

    def node(self, number: int) -> str:
        """The full name of the nth node, counted from 1."""
        return f"{self.short(number)}.{self.domain}"

    def short(self, number: int) -> str:
        """The short name of the nth node, which no other site's node has."""
        return f"{self.cluster}-{number}"

    def number(self, name: str) -> int:
        """The number in a node's name, full or short; ValueError when it names none of the cluster."""
        match = re.fullmatch(rf"{self.cluster}-([1-9]\d*)(?:\.{re.escape(self.domain)})?", name)
        if match is None:
            raise ValueError(name)
        return int(match[1])

    def node_ip(self, index: int, vlan: int | None = None) -> str:
        """The address of a node, on the production network or in a VLAN; in another site's global one beside its nodes."""
        if vlan is None:
            return self.network.node(index)
        owner = self.owner(vlan)
        return owner.network.node_in(vlan, index, _CLUSTERS * (SITES.index(self) - SITES.index(owner)) % _PLACES)

    def node_mac(self, index: int) -> str:
        """The hardware address of a node's network card."""
        return self.network.mac(index)

    @property
    def subnet_router(self) -> str:
        """The site's own address in the network of the subnets, with its prefix length."""
        return f"{self.network.subnet_gateway}/{ipaddress.ip_network(self.network.subnets).prefixlen}"

    def owner(self, vlan: int) -> Names:
        """The site that a VLAN comes from: that of a global one; all others are the site's own."""
        return next((one for one in SITES if one.network.own_global == vlan), self)

    def net(self, vlan: int | None = None) -> ipaddress.IPv4Network:
        """The production network, or that of a VLAN."""
        return ipaddress.IPv4Network(self.network.production) if vlan is None else self.owner(vlan).network.vlan(vlan)

    def gateway(self, vlan: int | None = None) -> str:
        """The site's own address in a network (in a global VLAN its owner's): router, DHCP and name server."""
        return self.network.gateway if vlan is None else str(self.net(vlan)[-2])


LAB = Names("lab", "vm")
"""The site that every lab has."""


def _further(at: int, site: str) -> Names:
    network = SiteNetwork(
        production=f"172.{24 + at}.0.0/18",
        frontend=f"172.{24 + at}.63.106",
        gateway=f"172.{24 + at}.63.254",
        routed_vlans=f"10.{4 * at}.0.0/14",
        subnets=f"10.{128 + 4 * at}.0.0/14",
        own_global=11 + at,
        mac_prefix=f"52:54:{at + 1:02x}:00",
    )
    return Names(site, f"{site}a", network, played=f"{site}b")


SITES = (LAB, *(_further(at, site) for at, site in enumerate(("west", "east", "north", "south"))))
"""The sites that a lab can have; no address or node's name of one is another's, but those in local VLANs."""


_CLUSTERS = 8  # of a site, in a global VLAN
_PLACES = _CLUSTERS * len(SITES)


def vlans(sites: Sequence[Names]) -> tuple[int, ...]:
    """KaVLAN identifiers that each of the sites knows: 1 to 3 local, then routed ones, then the global ones of all."""
    return *range(1, 10), *(one.network.own_global for one in sites)


def hosts(own: Names, sites: Sequence[Names], nodes: int) -> str:
    """All names of the sites, with `nodes` nodes each, in the form of /etc/hosts, as seen from inside `own`."""
    lines = ["127.0.0.1 localhost", f"{sites[0].access_ip} {ACCESS} access"]
    for one in sites:
        frontend, public = (" frontend", " public") if one == own else ("", "")
        lines += [
            f"{one.frontend_ip} {' '.join(one.frontend_names)}{frontend}",
            *(f"{address} {name}.{one.domain}" for name, address in one.network.servers().items()),
            f"{one.public_ip} {one.public}{public}",
        ]
        for index in range(1, nodes + 1):
            short = one.short(index)
            lines.append(f"{one.node_ip(index)} {one.node(index)} {short}")
            lines += [
                f"{one.node_ip(index, vlan)} {short}-kavlan-{vlan}.{one.domain} {short}-kavlan-{vlan}"
                for vlan in vlans(sites)
            ]
    return "\n".join(lines) + "\n"
