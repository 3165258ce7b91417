"""XDP programs: the device is chosen when they are attached, and a bpf_link takes them off however the process ends.

An object says only SEC("xdp"). Which device, and how, stands in X.load.yaml.
"""

from __future__ import annotations

import errno
import logging
import socket
from dataclasses import dataclass
from pathlib import Path

from .document import Part
from .libbpf import LibbpfError, Object, Program

log = logging.getLogger(__name__)

DEFAULT_ROUTE = "default-route"
_FLAGS = {"native": 1 << 2, "generic": 1 << 1}  # XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE
_MODES = ("auto", *_FLAGS)


class XdpError(Exception):
    """Why an XDP program is not attached, as a sentence."""


@dataclass(frozen=True)
class XdpSettings:
    """Where XDP programs go. `device`: a name, or the word for the device of the default route; none: nowhere."""

    device: str = ""
    mode: str = "auto"


def read_xdp(part: Part) -> XdpSettings:
    """`xdp: {device: NAME, mode: auto}`; what is wrong is added to the mistakes."""
    found = part.fields("xdp", {"device": True, "mode": False})
    device = found["device"].value("device of xdp", str) if "device" in found else ""
    mode = found["mode"].value("mode of xdp", str) if "mode" in found else "auto"
    if mode not in _MODES:
        found["mode"].wrong(f"unknown mode {mode} of xdp; known: {', '.join(_MODES)}")
    if device is not None and "device" in found and not 0 < len(device.encode()) < 16:
        found["device"].wrong(f"{device!r} cannot be the name of a network device")
    return XdpSettings(device or "", mode or "auto")


def is_xdp(program: Program) -> bool:
    """Whether a program's section says that it is one for a network device."""
    return program.section == "xdp" or program.section.startswith("xdp/")


def attach(opened: Object, program: Program, settings: XdpSettings) -> tuple[str, str]:
    """Attach to the device, and say to which and in which mode. `XdpError` where that does not succeed.

    Mode auto is native where the driver has it and takes it now, and generic otherwise.
    """
    device = device_of(program, settings)
    try:
        index = socket.if_nametoindex(device)
    except OSError:
        there = ", ".join(name for _, name in socket.if_nameindex())
        raise XdpError(f"there is no network device {device}; there are: {there}") from None
    modes = list(_FLAGS) if settings.mode == "auto" else [settings.mode]
    reasons = []
    for mode in modes:
        try:
            opened.attach_xdp(program, index, _FLAGS[mode])
        except LibbpfError as problem:
            reasons.append(f"{mode}: {_explain(problem, device)}")
        else:
            log.info("%s is attached to %s (%s)%s", program.name, device, mode, f"; {reasons[0]}" if reasons else "")
            return device, mode
    raise XdpError(f"{device} does not take an XDP program; {'; '.join(dict.fromkeys(reasons))}")


def device_of(program: Program, settings: XdpSettings) -> str:
    """The name of the device that a program is for. `XdpError` where nothing says it."""
    device = settings.device or program.section.partition("/")[2]
    if not device:
        raise XdpError("an XDP program needs a device; X.load.yaml says which: `xdp: {device: NAME}`")
    return default_route() if device == DEFAULT_ROUTE else device


def default_route(table: Path = Path("/proc/net/route")) -> str:
    """The device of the IPv4 default route, the one of least metric. `XdpError` if there is none."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        rows = []
    routes = [(int(row[6]), row[0]) for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"]
    if not routes:
        raise XdpError("there is no default route, whose device the XDP program was to be attached to")
    return min(routes)[1]


def _explain(problem: LibbpfError, device: str) -> str:
    if problem.errno in {errno.EBUSY, errno.EEXIST}:
        return f"another XDP program is on {device} (ip link show {device} tells its number)"
    if problem.errno == errno.EOPNOTSUPP:
        return "the driver has no XDP of its own"
    if problem.errno in {errno.EPERM, errno.EACCES}:
        return "capability missing: CAP_NET_ADMIN"
    if problem.errno in {errno.EINVAL, errno.ERANGE, errno.E2BIG}:
        return "the driver refuses it as the device is set up now, most often for its MTU"
    return str(problem)
