"""The site's network from inside: DHCP and names, and the VLANs between which nodes are moved."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from g5kdeploy.base import files, process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.site.names import Names
from g5kdeploy.lab.site.namespace import Namespace

BRIDGE = "production"
SECONDS = 30.0


def dnsmasq_configuration(
    own: Names, folder: Path, nodes: int, vlan: int | None = None, sites: Sequence[Names] = ()
) -> str:
    """dnsmasq's configuration for the production network (DHCP by hardware address, all names) or for a VLAN.

    `sites`: those whose nodes a global VLAN may have beside the own ones.
    """
    network = own.net(vlan)
    interface = BRIDGE if vlan is None else f"kavlan{vlan}"
    suffix = "" if vlan is None else f"-kavlan-{vlan}"
    lines = [
        "keep-in-foreground",
        "pid-file=",  # none: /run is the machine's
        "log-facility=-",
        "user=root",
        "group=root",
        "no-resolv",
        "no-hosts",
        "no-ping",
        "bind-interfaces",
        "except-interface=lo",
        f"interface={interface}",
        f"addn-hosts={folder / 'hosts'}",
        "local=/grid5000.fr/",
        f"domain={own.domain}",
        "dhcp-authoritative",
        "dhcp-leasefile=/dev/null",
        "leasefile-ro",
        f"dhcp-range={network.network_address},static,{network.netmask},12h",
        f"dhcp-option=option:router,{own.gateway(vlan)}",
        f"dhcp-option=option:dns-server,{own.gateway(vlan)}",
        f"dhcp-option=option:domain-search,{own.domain}",
    ]
    lines += [
        f"dhcp-host={one.node_mac(index)},{one.node_ip(index, vlan)},{one.short(index)}{suffix},12h"
        for one in dict.fromkeys([own, *sites])
        for index in range(1, nodes + 1)
    ]
    return "\n".join(lines) + "\n"


class Network:
    """DHCP, names and VLANs of a running site. `sites` are all of the lab, `hosts` their names, as /etc/hosts has them.

    `outer` is the network of the first site, to which the others have lines (None: it is this one).
    """

    def __init__(
        self,
        own: Names,
        namespace: Namespace,
        folder: Path,
        nodes: int,
        hosts: str,
        sites: Sequence[Names] = (),
        outer: Network | None = None,
    ) -> None:
        self._own = own
        self._hosts = hosts
        self._namespace = namespace
        self._folder = folder
        self._nodes = nodes
        self._sites = sites
        self._outer = outer
        self._owners: dict[int, Network] = outer._owners if outer else {}
        self._owners[own.network.own_global] = self
        self._servers: dict[int | None, subprocess.Popen[bytes]] = {}
        self._lock = threading.RLock()

    def start(self, deadline: Deadline) -> None:
        """Serve names and addresses on the production network."""
        files.write(self._folder / "hosts", self._hosts)
        self._serve(None)
        self._wait_names(deadline)

    def _wait_names(self, deadline: Deadline) -> None:
        server = self._servers[None]
        probe = ["ss", "-lnu", f"src = {self._own.gateway()}:53"]
        while self._own.gateway() not in self._namespace.run(probe, deadline).stdout:
            if server.poll() is not None:
                raise Problem("the site's name server ended", log=self._folder / "dnsmasq.log")
            deadline.sleep(0.05, "dnsmasq does not listen")

    def _serve(self, vlan: int | None) -> None:
        with self._lock:
            running = self._servers.get(vlan)
            if running is not None and running.poll() is None:
                return
            others = self._sites if vlan == self._own.network.own_global else ()
            file = self._folder / ("dnsmasq.conf" if vlan is None else f"dnsmasq-kavlan{vlan}.conf")
            files.write(file, dnsmasq_configuration(self._own, self._folder, self._nodes, vlan, others))
            self._servers[vlan] = self._namespace.spawn(
                ["dnsmasq", f"--conf-file={file}"], self._folder / "dnsmasq.log"
            )

    def _make_vlan(self, vlan: int, deadline: Deadline, *, routed: bool = True) -> None:
        """The VLAN's bridge, made when the first node comes; `routed`: with the site's address on it."""
        name = f"kavlan{vlan}"
        if self._has(name, deadline):
            return
        batch = [f"link add {name} type bridge forward_delay 0", f"link set {name} up"]
        if routed:
            batch.append(f"address add {self._own.gateway(vlan)}/{self._own.net(vlan).prefixlen} dev {name}")
        self._namespace.run(["ip", "-batch", "-"], deadline, input="\n".join(batch) + "\n")

    def _has(self, interface: str, deadline: Deadline) -> bool:
        return self._namespace.run(["ip", "link", "show", interface], deadline, check=False).returncode == 0

    def _open(self, vlan: int, deadline: Deadline) -> None:
        """Have a VLAN here. A global one is its owner's, whose router and DHCP server serve all sites over their lines."""
        owner = self._owners.get(vlan, self)
        with owner._lock:
            owner._make_vlan(vlan, deadline)
            owner._serve(vlan)
        if owner is not self:
            for one in (owner, self):
                one._join(vlan, deadline)

    def _join(self, vlan: int, deadline: Deadline) -> None:
        """Lay a line of a global VLAN's own to the first site, and plug it in on both sides."""
        if (first := self._outer) is None:
            return
        with first._lock, self._lock:
            for one in (first, self):
                one._make_vlan(vlan, deadline, routed=False)
            there, here = f"{self._own.site}.{vlan}", f"uplink.{vlan}"
            if self._has(here, deadline):
                return
            self._namespace.lay_line(there, here, deadline)
            for one, end in ((first, there), (self, here)):
                one._namespace.run(["ip", "link", "set", end, "master", f"kavlan{vlan}", "up"], deadline)

    def move(self, index: int, vlan: int | None) -> None:
        """Plug a node into a VLAN (None: the production network). The node itself is not told, as on a real switch."""
        deadline = Deadline.after(SECONDS, f"the move of {self._own.node(index)} to another VLAN")
        if vlan is not None:
            self._open(vlan, deadline)
        bridge = BRIDGE if vlan is None else f"kavlan{vlan}"
        self._namespace.run(["ip", "link", "set", self._own.short(index), "master", bridge], deadline)

    def dhcp(self, vlan: int, on: bool) -> None:
        """Start or stop a VLAN's DHCP server."""
        deadline = Deadline.after(SECONDS, f"the DHCP server of VLAN {vlan}")
        if on:
            self._open(vlan, deadline)
            return
        owner = self._owners.get(vlan, self)
        with owner._lock:
            if (server := owner._servers.pop(vlan, None)) is not None:
                process.stop(server)
