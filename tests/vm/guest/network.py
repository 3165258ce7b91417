"""Makes network events happen in namespaces of its own, and notes what the exporter served of them.

    network.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...

One exporter serves all programs but XDP's, of which each has to be killed while it is attached.
Runs as root where /run and the network namespace are its own: in a machine that is started for it, or under `unshare -n -m`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from exporting import PATIENCE, PREFIX, Exporter, exporting, run, tell, tried
from namespace import inside

NEAR, FAR = "10.77.0.1", "10.77.0.2"
WEAK = "10.79.0.1"
PORTS = range(3000 + os.getpid() % 25000, 28100)
"""Below those of clients, and this process's own: programs on TCP and UDP see the whole machine, which may run this twice."""
GROUP, GROUP6 = "239.77.1.2", "ff05::77:1"
NOBODY = "10.77.0.9"
SIX = Path("/proc/net/if_inet6").exists()
"""Whether this kernel has IPv6 now."""
IP_ADD_SOURCE_MEMBERSHIP = 39
PROGRAMS = "tcp,tcp_queues,packet_drops,socket_drops,multicast,igmp,net_rx,xdp_errors,xdp"
EXPORTER: list[Exporter] = []


def pair(device: str, index: int, peer: str, subnet: str) -> None:
    """Two devices, one here and one in `far`. Programs see their numbers: so no two have the same."""
    run("ip", "link", "add", device, *f"index {index} type veth peer name {peer} index {index + 1} netns far".split())
    for place, name, host in (([], device, 1), (["-n", "far"], peer, 2)):
        run("ip", *place, "addr", "add", f"10.{subnet}.0.{host}/24", "dev", name)
        if SIX:
            run("ip", *place, "addr", "add", f"fd{subnet}::{host}/64", "dev", name, "nodad")
        run("ip", *place, "link", "set", name, "up")
    with inside("far"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.sendto(b"", (f"10.{subnet}.0.1", 9))  # neighbours are looked up before anything is counted


def prepare() -> None:
    """Two namespaces, this one and `far`; between them one pair of devices for all, and one for packets that are mistreated."""
    socket.setdefaulttimeout(PATIENCE)
    run("ip", "link", "set", "lo", "up")
    run("ip", "netns", "add", "far")
    run("ip", "-n", "far", "link", "set", "lo", "up")
    pair("near", 77, "far", "77")
    pair("weak", 79, "feeble", "79")
    run("ip", "-n", "far", "route", "add", "224.0.0.0/4", "dev", "far")
    EXPORTER.append(Exporter(PROGRAMS, {"xdp.load.yaml": "xdp: {device: nowhere}\n"}))


@contextlib.contextmanager
def watched() -> Iterator[tuple[dict[str, Any], Exporter]]:
    """What was served before and after; more can be added by the scenario."""
    (exporter,) = EXPORTER
    seen: dict[str, Any] = {"before": exporter.samples()}
    yield seen, exporter
    seen["after"] = exporter.samples()


Scenario = Callable[[], dict[str, Any]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(*programs: str) -> Callable[[Scenario], Scenario]:
    """A scenario for these programs: it is not begun where the kernel refuses one of them."""

    def named(function: Scenario) -> Scenario:
        def begin() -> dict[str, Any]:
            samples = EXPORTER[0].samples()
            for program in programs:
                if not samples[f'g5k_bpf_program_loaded{{config="{program}"}}']:
                    prefix = f'g5k_bpf_failure_info{{config="{program}"'
                    return {"missing": [program, *(name for name in samples if name.startswith(prefix))]}
            return function()

        SCENARIOS[function.__name__] = begin
        return function

    return named


def reached(exporter: Exporter, wanted: dict[str, float]) -> dict[str, float]:
    """The samples as soon as all of these have come so far, or as they are when patience is at its end."""
    end = time.monotonic() + PATIENCE
    while True:
        samples = exporter.samples()
        if all(samples.get(name, 0) >= least for name, least in wanted.items()) or time.monotonic() > end:
            return samples
        time.sleep(0.05)


def of(metric: str, **labels: object) -> str:
    """The name of a sample, as the exporter writes it: labels in the order of the YAML."""
    inner = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{PREFIX}{metric}{{{inner}}}" if labels else f"{PREFIX}{metric}"


def send(namespace: str, source: str, to: tuple[str, int], count: int, size: int = 100) -> None:
    """Datagrams from a namespace, the multicast ones by the device that has the address `source`."""
    with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        for _ in range(count):
            out.sendto(bytes(size), to)


def send_six(count: int) -> int:
    """Datagrams from `far` to the group of IPv6; how many."""
    if not SIX:
        return 0
    with inside("far"), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("far"))
        out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        for _ in range(count):
            out.sendto(bytes(100), (GROUP6, 7))
    return count


def listener(
    kind: int, namespace: str, address: str, port: int = 0, buffer: int = 0, protocol: int = 0
) -> socket.socket:
    """A socket that is bound in a namespace, which is ours alone: a port below those of clients is free there."""
    with inside(namespace):
        made = socket.socket(socket.AF_INET, kind, protocol)
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.bind((address, port))
    return made


def sockets_of(table: str, port: int) -> list[list[str]]:
    """The columns of the sockets in `far` that are bound to a port: /proc/net/TABLE has it in hexadecimal."""
    rows = [line.split() for line in run("ip", "netns", "exec", "far", "cat", f"/proc/net/{table}").splitlines()[1:]]
    return [row for row in rows if row[1].endswith(f":{port:04X}")]


def wait_until_queued(port: int, count: int) -> None:
    """Until so many connections wait to be accepted: for a listening socket, the kernel tells them as its received bytes."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if any(int(row[4].split(":")[1], 16) >= count for row in sockets_of("tcp", port) if row[3] == "0A"):
            return
        time.sleep(0.05)


def drain(full: socket.socket) -> int:
    """Takes all datagrams that wait in a socket; how many."""
    full.setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            full.recv(65536)
            taken += 1
    return taken


def flood(full: socket.socket, table: str, port: int, count: int) -> int:
    """Sends to a socket in `far` that nobody reads; how many it could not take, as the kernel tells it in the last column."""
    with socket.socket(socket.AF_INET, full.type, full.proto) as out:
        for _ in range(count):
            out.sendto(bytes(1000), (FAR, port))
    end, taken, dropped = time.monotonic() + PATIENCE, 0, 0
    while taken + dropped < count and time.monotonic() < end:
        dropped = int(sockets_of(table, port)[0][-1])
        if dropped:  # not before it was full
            taken += drain(full)
    return dropped


def xdp_on(device: str) -> dict[str, Any]:
    """What `ip` says of the XDP program on a device; empty where there is none."""
    found: dict[str, Any] = json.loads(run("ip", "-j", "-d", "link", "show", device))[0].get("xdp", {})
    return found


@scenario("xdp", "xdp_errors")
def xdp() -> dict[str, Any]:
    """60 packets to a group and 30 that are dropped; 11, 12 and 13 whose verdicts cannot be carried out. Then a kill."""
    seen: dict[str, Any] = {}
    for mode in ("native", "generic"):
        files = {
            "xdp.load.yaml": f"xdp: {{device: near, mode: {mode}}}\nvalues: {{drop_udp_port: 7777}}\n",
            "xdp_broken.load.yaml": f"xdp: {{device: weak, mode: {mode}}}\n",
        }
        with watched() as (errors, all_else), exporting("xdp,xdp_broken", files) as exporter:
            send("far", FAR, (GROUP, 7), 60)
            six = send_six(20)
            send("far", FAR, (NEAR, 7777), 30)
            for count, port in ((11, 5001), (12, 5002), (13, 5003)):
                send("far", FAR, (WEAK, port), count)
            wanted = {of("xdp_packets_total", action="drop"): 30, of("xdp_broken_total", verdict=3): 13}
            wanted |= {
                of("xdp_group_packets_total", device="near", group=group): count
                for group, count in ((GROUP, 60), (GROUP6, six))
            }
            samples = reached(exporter, wanted)
            seen[mode] = {"before": {}, "after": samples, "six": six, "device": xdp_on("near")}
            seen[mode]["status"] = exporter.end(signal.SIGKILL)
            seen[mode]["device_later"] = xdp_on("near")
        seen[f"{mode}_errors"] = errors
    seen["absent"] = {"before": {}, "after": all_else.samples(), "log": all_else.text()}
    return seen


@scenario("tcp")
def tcp() -> dict[str, Any]:
    """5 connections that are made and used, 3 that are refused, and one that nobody answers."""
    port, closed, silent_port = PORTS[:3]
    server = listener(socket.SOCK_STREAM, "far", FAR, port)
    server.listen(5)
    run("ip", "neigh", "replace", NOBODY, "lladdr", "02:00:00:00:00:09", "dev", "near")
    with watched() as (seen, exporter):
        for _ in range(5):
            with socket.create_connection((FAR, port), PATIENCE) as client:
                other, _ = server.accept()
                for _ in range(20):
                    client.sendall(b"ping")
                    other.sendall(other.recv(4))
                    client.recv(4)
                other.close()
        for _ in range(3):
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection((FAR, closed), PATIENCE)
        with socket.socket() as silent:
            silent.setblocking(False)
            silent.connect_ex((NOBODY, silent_port))
            exporter.until(of("tcp_retransmits_total", port=silent_port, state="syn_sent"), 1)
        exporter.until(of("tcp_connects_total", port=silent_port, result="closed"), 1)
    server.close()
    return seen | {"port": port, "closed": closed, "silent": silent_port}


@scenario("tcp")
def loss() -> dict[str, Any]:
    """A connection over a device that delays by 40 ms and loses every tenth packet."""
    shaped = ["dev", "near", "root", "netem", "delay", "40ms", "loss", "10%"]
    if not tried("tc", "qdisc", "add", *shaped):
        return {"missing": "the packet scheduler netem"}
    port = PORTS[3]
    server = listener(socket.SOCK_STREAM, "far", FAR, port)
    server.listen(5)
    with watched() as (seen, exporter), socket.create_connection((FAR, port), PATIENCE) as client:
        other, _ = server.accept()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            client.sendall(bytes(64))
            other.recv(64)
            if exporter.samples().get(of("tcp_retransmits_total", port=port, state="established"), 0) >= 2:
                break
        other.close()
    server.close()
    run("tc", "qdisc", "del", "dev", "near", "root")
    return seen | {"port": port}


@scenario("tcp_queues")
def tcp_queues() -> dict[str, Any]:
    """A listener that accepts nobody, with room for two; and a receiver that does not read."""
    ports = list(PORTS[4:6])
    server, slow = (listener(socket.SOCK_STREAM, "far", FAR, port, buffer=4096) for port in ports)
    for listening in (server, slow):
        listening.listen(1)
    with watched() as (seen, exporter):
        waiting = []
        for count in (1, 2):
            waiting.append(socket.create_connection((FAR, ports[0]), PATIENCE))
            wait_until_queued(ports[0], count)
        with socket.socket() as third:
            third.setblocking(False)
            third.connect_ex((FAR, ports[0]))
            exporter.until(of("tcp_listen_queue_full_total", port=ports[0], queue="accept", segment="syn"), 1)
        with socket.create_connection((FAR, ports[1]), PATIENCE) as client:
            client.setblocking(False)
            other, _ = slow.accept()
            end = time.monotonic() + PATIENCE
            closed = of("tcp_receive_window_bytes_bucket", port=ports[1], le="0.0")
            while exporter.samples().get(closed, 0) < 1 and time.monotonic() < end:
                with contextlib.suppress(BlockingIOError):
                    client.send(bytes(65536))
            other.close()
    for made in (*waiting, server, slow):
        made.close()
    return seen | {"ports": ports}


@scenario("packet_drops", "socket_drops")
def drops() -> dict[str, Any]:
    """Datagrams that nobody waits for, and more of them than a socket takes: of UDP and of a protocol without a name."""
    port, nobody = PORTS[6:8]
    full = listener(socket.SOCK_DGRAM, "far", FAR, port, buffer=4096)
    raw = listener(socket.SOCK_RAW, "far", FAR, buffer=4096, protocol=253)
    with watched() as (seen, exporter):
        for _ in range(10):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                out.sendto(b"x", (FAR, nobody))
        lost = {"udp": flood(full, "udp", port, 200), "raw": flood(raw, "raw", 253, 200)}
        dropped = of("udp_drops_total", port=port, reason="socket_rcvbuff")
        reached(exporter, {of("udp_drops_total", port=nobody, reason="no_socket"): 10, dropped: lost["udp"]})
    full.close()
    raw.close()
    return seen | {"port": port, "nobody": nobody, "lost": lost}


@scenario("multicast")
def multicast() -> dict[str, Any]:
    """40 packets from `far` to a group and 20 to one of IPv6, 30 from here."""
    with watched() as (seen, exporter):
        send("far", FAR, (GROUP, 7), 40)
        seen["six"] = send_six(20)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(NEAR))
            for _ in range(30):
                out.sendto(bytes(10), (GROUP, 7))
        wanted = {}
        for group, direction, count in (
            (GROUP, "receive", 40),
            (GROUP6, "receive", seen["six"]),
            (GROUP, "transmit", 30),
        ):
            name = of("multicast_packets_total", device="near", direction=direction, group=group)
            wanted[name] = seen["before"].get(name, 0) + count
        reached(exporter, wanted)
    return seen


@scenario("igmp")
def igmp() -> dict[str, Any]:
    """Two sockets join a group, one leaves it and one is closed; a third wants one source alone; a device comes up."""
    wanted = socket.inet_aton(GROUP) + socket.inet_aton(NEAR)
    one_source = socket.inet_aton("232.77.1.2") + socket.inet_aton(NEAR) + socket.inet_aton(FAR)
    with watched() as (seen, _):
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for joining in sockets[:2]:
            joining.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, wanted)
        sockets[2].setsockopt(socket.IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, one_source)
        sockets[0].setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, wanted)
        for joined in sockets:
            joined.close()
        run("ip", "link", "add", "extra", "index", "99", "type", "veth", "peer", "name", "other")
        run("ip", "addr", "add", "10.78.0.1/24", "dev", "extra")
        run("ip", "link", "set", "extra", "up")
    run("ip", "link", "del", "extra")
    return seen


@scenario("net_rx")
def net_rx() -> dict[str, Any]:
    """200 datagrams, which come by the CPU's backlog; in a machine of our own with a budget of one packet a poll."""
    weight = Path("/proc/sys/net/core/dev_weight")
    own = weight.exists()  # it is the machine's, and not seen in another network namespace
    before = weight.read_text() if own else ""
    exhausted = of("napi_polls_total", device="unknown:0", result="exhausted")
    packets = of("napi_poll_packets_sum", device="unknown:0")
    with watched() as (seen, exporter):
        if own:
            weight.write_text("1")
        send("far", FAR, (NEAR, 7), 200)
        if own:
            exporter.until(exhausted, seen["before"].get(exhausted, 0) + 1)
            weight.write_text(before)
        exporter.until(packets, seen["before"].get(packets, 0) + 200)
    return seen | {"own": own}


if __name__ == "__main__":
    tell(SCENARIOS, prepare)
    for exporter in EXPORTER:
        exporter.end()
