"""Names and addresses of the site. Its network is a namespace of its own, so that every lab can have the same ones."""

from __future__ import annotations

import ipaddress
import re

from g5kdeploy.lab.reference.hardware import SiteNetwork

SITE = "lab"
CLUSTER = "vm"
DOMAIN = f"{SITE}.grid5000.fr"
ACCESS = "access.grid5000.fr"
FRONTEND = f"f{SITE}.{DOMAIN}"
PUBLIC = f"public.{DOMAIN}"

NETWORK = SiteNetwork()
FRONTEND_IP = NETWORK.frontend
ACCESS_IP, PUBLIC_IP = (str(ipaddress.ip_address(FRONTEND_IP) + offset) for offset in (1, 2))
FURTHER = ("west", "east", "north", "south")
"""Sites that a lab can have beside its own; its frontend is theirs as well, for there is no other machine."""

FRONTEND_NAMES = (
    FRONTEND, f"f{SITE}", f"frontend.{DOMAIN}", "frontend", f"f{SITE}.grid5000.fr", DOMAIN, SITE,
    *(f"f{site}.{site}.grid5000.fr" for site in FURTHER),
)  # fmt: skip
VLANS = range(1, NETWORK.own_global + 1)
"""KaVLAN identifiers that the site knows: 1 to 3 local, then routed ones, the last one global."""


def node(number: int) -> str:
    """The full name of the nth node, counted from 1."""
    return f"{CLUSTER}-{number}.{DOMAIN}"


def number(name: str) -> int:
    """The number in a node's name, full or short; ValueError when it names none of the cluster."""
    match = re.fullmatch(rf"{CLUSTER}-([1-9]\d*)(?:\.{re.escape(DOMAIN)})?", name)
    if match is None:
        raise ValueError(name)
    return int(match[1])


def node_ip(index: int, vlan: int | None = None) -> str:
    """The address of a node, on the production network or in a VLAN."""
    return NETWORK.node(index) if vlan is None else NETWORK.node_in(vlan, index)


def node_mac(index: int) -> str:
    """The hardware address of a node's network card."""
    return NETWORK.mac(index)


def network(vlan: int | None = None) -> ipaddress.IPv4Network:
    """The production network, or that of a VLAN."""
    return ipaddress.IPv4Network(NETWORK.production) if vlan is None else NETWORK.vlan(vlan)


def gateway(vlan: int | None = None) -> str:
    """The site's own address in a network: its router, DHCP and name server."""
    return NETWORK.gateway if vlan is None else str(network(vlan)[-2])


def hosts(nodes: int) -> str:
    """All names of the site in the form of /etc/hosts, as seen from inside it."""
    lines = [
        "127.0.0.1 localhost",
        f"{FRONTEND_IP} {' '.join(FRONTEND_NAMES)}",
        f"{ACCESS_IP} {ACCESS} access",
        f"{PUBLIC_IP} {PUBLIC} public",
    ]
    for index in range(1, nodes + 1):
        short = f"{CLUSTER}-{index}"
        lines.append(f"{node_ip(index)} {node(index)} {short}")
        lines += [f"{node_ip(index, vlan)} {short}-kavlan-{vlan}.{DOMAIN} {short}-kavlan-{vlan}" for vlan in VLANS]
    return "\n".join(lines) + "\n"
