"""Makes network events happen in namespaces of its own, and notes what the exporter served of them.

    network.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...

Runs as root where /run and the network namespace are its own: in a machine that is started for it, or under `unshare -n -m`.
What each scenario saw goes to the file OUT, as JSON; so does whatever went wrong, under `error`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from exporting import PREFIX, exporting, run, tell

NEAR, FAR = "10.77.0.1", "10.77.0.2"
GROUP = "239.77.1.2"
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def enter(namespace: int) -> None:
    if LIBC.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This process in another network namespace: sockets that are made meanwhile belong there."""
    with Path("/proc/self/ns/net").open() as own, Path(f"/run/netns/{namespace}").open() as other:
        enter(other.fileno())
        try:
            yield
        finally:
            enter(own.fileno())


def prepare() -> None:
    """Two namespaces, this one and `far`, and a pair of devices between them: near and far, which know each other."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "netns", "add", "far")
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", "far")
    for place, device, address in (([], "near", NEAR), (["-n", "far"], "far", FAR)):
        run("ip", *place, "addr", "add", f"{address}/24", "dev", device)
        run("ip", *place, "link", "set", device, "up")
    run("ip", "-n", "far", "link", "set", "lo", "up")
    run("ip", "-n", "far", "route", "add", "224.0.0.0/4", "dev", "far")
    with inside("far"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.sendto(b"", (NEAR, 9))  # neighbours are looked up before anything is counted


def send(namespace: str, source: str, to: tuple[str, int], count: int, size: int = 100) -> None:
    """Datagrams from a namespace, the multicast ones by the device that has the address `source`."""
    with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        for _ in range(count):
            out.sendto(bytes(size), to)


def xdp_on(device: str) -> dict[str, Any]:
    """What `ip` says of the XDP program on a device; empty where there is none."""
    found: dict[str, Any] = json.loads(run("ip", "-j", "-d", "link", "show", device))[0].get("xdp", {})
    return found


def xdp() -> dict[str, Any]:
    """60 packets to a group and 30 that are dropped, in each mode; then the exporter is killed."""
    seen: dict[str, Any] = {}
    for mode in ("native", "generic"):
        settings = f"xdp: {{device: near, mode: {mode}}}\nvalues: {{drop_udp_port: 7777}}\n"
        with exporting("xdp", {"xdp.load.yaml": settings}) as exporter:
            send("far", FAR, (GROUP, 7), 60)
            send("far", FAR, (NEAR, 7777), 30)
            exporter.until(f'{PREFIX}xdp_group_packets_total{{device="near",group="{GROUP}"}}', 60)
            samples = exporter.until(f'{PREFIX}xdp_packets_total{{action="drop"}}', 30)
            seen[mode] = {"samples": samples, "device": xdp_on("near")}
            seen[mode]["status"] = exporter.end(signal.SIGKILL)
            seen[mode]["device_later"] = xdp_on("near")
            seen[mode]["log"] = exporter.text()
    with exporting("xdp", {"xdp.load.yaml": "xdp: {device: nowhere}\n"}) as exporter:
        seen["absent"] = {"samples": exporter.samples(), "log": exporter.text()}
    return seen


SCENARIOS: dict[str, Callable[[], dict[str, Any]]] = {"xdp": xdp}


if __name__ == "__main__":
    tell(SCENARIOS, prepare)
