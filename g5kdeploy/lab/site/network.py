"""The site's network from inside: DHCP and names, and the VLANs between which nodes are moved."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from pathlib import Path

from g5kdeploy.base import files, process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.site.names import Names
from g5kdeploy.lab.site.namespace import Namespace

BRIDGE = "production"
SECONDS = 30.0


def dnsmasq_configuration(own: Names, folder: Path, nodes: int, vlan: int | None = None) -> str:
    """dnsmasq's configuration for the production network (DHCP by hardware address, all names) or for a VLAN."""
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
        f"dhcp-host={own.node_mac(index)},{own.node_ip(index, vlan)},{own.short(index)}{suffix},12h"
        for index in range(1, nodes + 1)
    ]
    return "\n".join(lines) + "\n"


class Network:
    """DHCP, names and VLANs of a running site. `hosts`: all names that it serves, in the form of /etc/hosts."""

    def __init__(self, own: Names, namespace: Namespace, folder: Path, nodes: int, hosts: str) -> None:
        self._own = own
        self._hosts = hosts
        self._namespace = namespace
        self._folder = folder
        self._nodes = nodes
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
            file = self._folder / ("dnsmasq.conf" if vlan is None else f"dnsmasq-kavlan{vlan}.conf")
            files.write(file, dnsmasq_configuration(self._own, self._folder, self._nodes, vlan))
            self._servers[vlan] = self._namespace.spawn(
                ["dnsmasq", f"--conf-file={file}"], self._folder / "dnsmasq.log"
            )

    def _make_vlan(self, vlan: int, deadline: Deadline) -> None:
        """The VLAN's bridge with the site's address on it; made when the first node comes."""
        name = f"kavlan{vlan}"
        if self._namespace.run(["ip", "link", "show", name], deadline, check=False).returncode == 0:
            return
        batch = [
            f"link add {name} type bridge forward_delay 0",
            f"address add {self._own.gateway(vlan)}/{self._own.net(vlan).prefixlen} dev {name}",
            f"link set {name} up",
        ]
        self._namespace.run(["ip", "-batch", "-"], deadline, input="\n".join(batch) + "\n")

    def move(self, index: int, vlan: int | None) -> None:
        """Plug a node into a VLAN (None: the production network). The node itself is not told, as on a real switch."""
        deadline = Deadline.after(SECONDS, f"the move of {self._own.node(index)} to another VLAN")
        with self._lock:
            if vlan is not None:
                self._make_vlan(vlan, deadline)
                self._serve(vlan)
            bridge = BRIDGE if vlan is None else f"kavlan{vlan}"
            self._namespace.run(["ip", "link", "set", self._own.short(index), "master", bridge], deadline)

    def dhcp(self, vlan: int, on: bool) -> None:
        """Start or stop a VLAN's DHCP server."""
        deadline = Deadline.after(SECONDS, f"the DHCP server of VLAN {vlan}")
        with self._lock:
            self._make_vlan(vlan, deadline)
            if on:
                self._serve(vlan)
            elif (server := self._servers.pop(vlan, None)) is not None:
                process.stop(server)

    def stop(self) -> None:
        """End the servers."""
        with self._lock:
            for server in self._servers.values():
                with contextlib.suppress(OSError):
                    process.stop(server)
            self._servers.clear()
