"""Sends frames to somebody else's XDP program, and notes what the exporter served before and after them.

frames.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...

Frames go from one end of a pair of devices to the other, `frames`, where they arrive; the verdict stands in each.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from af_xdp import XdpSocket
from exporting import PACKAGES, PATIENCE, PROGRAMS, REPOSITORY, Group, run, tried

sys.path[:0] = [str(REPOSITORY), str(PACKAGES)]

from g5kdeploy.exporter.collector import program_info  # noqa: E402 - found there
from g5kdeploy.exporter.libbpf import Library, Object  # noqa: E402

DEVICE, FROM = "frames", "sender"
EXPERIMENT = 0x88B5
MODES = {"native": 1 << 2, "generic": 1 << 1}
ABORTED, DROP, PASS, TX, REDIRECT, NONE, TO_DEVICE, TO_CPU = range(8)


def prepare() -> None:
    run("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", FROM)
    for device in (DEVICE, FROM):
        run("ip", "link", "set", device, "up")


GROUP = Group(prepare, {"xdp_verdicts.load.yaml": f"xdp: {{device: {DEVICE}}}\n"})


@contextlib.contextmanager
def judged(mode: str) -> Iterator[Object]:
    """The device with the test's XDP program on it."""
    loaded = Library().open(PROGRAMS / "frames.bpf.o")
    loaded.load()
    (program,) = loaded.programs()
    loaded.attach_xdp(program, socket.if_nametoindex(DEVICE), MODES[mode])
    try:
        yield loaded
    finally:
        loaded.close()


def put(loaded: Object, name: str, value: int) -> None:
    """Into the first place of a map."""
    place = loaded.maps()[name]
    assert not loaded.library.call.bpf_map_update_elem(place.fd, bytes(4), value.to_bytes(4, sys.byteorder), 0)


def send(verdict: int, count: int) -> None:
    frame = b"\xff" * 6 + b"\x02\0\0\0\0\1" + EXPERIMENT.to_bytes(2, "big") + bytes([verdict]) + bytes(99)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((FROM, 0))
        for _ in range(count):
            out.send(frame)


@GROUP.scenario
def xsk() -> dict[str, Any]:
    """A socket that gets 7 packets and has no place for any, then 20 with a ring for four."""
    seen: dict[str, Any] = {}
    for mode in MODES:
        packets = f'xsk_packets_total{{device="{DEVICE}"'
        with judged(mode) as loaded, GROUP.watched_until(packets, 27) as (seen[mode], enough):
            receiver = XdpSocket(DEVICE, received=4)
            put(loaded, "frame_sockets", receiver.socket.fileno())
            send(REDIRECT, 7)
            end = time.monotonic() + PATIENCE
            while receiver.lost()["dropped"] < 7 and time.monotonic() < end:
                pass
            receiver.give_memory(8)
            send(REDIRECT, 20)
            while not enough():
                pass
            seen[mode]["lost"] = receiver.lost()
            receiver.close()
    return seen


@contextlib.contextmanager
def undisturbed(cpu: int) -> Iterator[None]:
    """On that CPU and, if that is allowed, before all else there: what waits for it, waits."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed & {cpu} or allowed)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, allowed)


def wait_until_watched(loaded: Object) -> None:
    """Until the exporter watches this XDP program, and no longer one that was there before it."""
    end = time.monotonic() + PATIENCE
    number = program_info(loaded.programs()[0].fd)["prog_id"]
    watched = f'g5k_bpf_watched_info{{config="xdp_verdicts",device="{DEVICE}",number="{number}",program="xdp_verdict"}}'
    while watched not in GROUP.samples() and time.monotonic() < end:
        time.sleep(0.1)


@GROUP.scenario
def xdp_verdicts() -> dict[str, Any]:
    """An XDP program that comes after the exporter and judges frames, and another in its place."""
    seen: dict[str, Any] = {}
    last = f'xdp_verdicts_total{{device="{DEVICE}",action="invalid"}}'
    for mode in MODES:
        with GROUP.watched_until(last, 8) as (seen[mode], enough), judged(mode) as loaded:
            wait_until_watched(loaded)
            for verdict, count in ((ABORTED, 5), (DROP, 6), (PASS, 7), (NONE, 8)):
                send(verdict, count)
            while not enough():
                pass
    return seen


@GROUP.scenario
def xdp_errors() -> dict[str, Any]:
    """Frames for a device that nobody reads, and for a CPU, until its queue is full."""
    if not GROUP.samples()['g5k_bpf_program_loaded{config="xdp_errors"}']:
        return {"missing": "xdp_errors"}
    if not tried("ip", "tuntap", "add", "dev", "unread", "mode", "tap"):
        return {"missing": "devices of the kind tap"}
    run("ip", "link", "set", "unread", "up")
    with judged("native") as loaded, GROUP.watched_until("xdp_cpumap_drops_total", 1) as (seen, enough):
        put(loaded, "frame_devices", socket.if_nametoindex("unread"))
        put(loaded, "frame_cpus", 1)
        send(TO_DEVICE, 9)
        while not enough():
            with undisturbed(0):
                send(TO_CPU, 64)
    return seen


if __name__ == "__main__":
    GROUP.run()
