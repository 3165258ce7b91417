"""X.load.yaml: what ebpf_exporter's format cannot say about a program and ours alone reads.

alternatives:                     # the first that loads on this kernel is used, and stands for X
  - {name: A, mode: override}     # A.yaml and A.bpf.o; mode is the word under which it is reported
  - {name: B, mode: exit_rewrite}
mode_metric: mock_mode            # g5k_bpf_mock_mode{config="X",mode="override"} 1
values: {mock_path: /tmp/x}       # `const volatile` variables: a number, or text for an array of char
filter: {cgroup: PATH}            # or {tgid: N}: whose events are counted, by the variables of kernel.bpf.h
calls: [openat, statx]            # system calls to measure, for programs that have `wanted_calls` and `every_call`
xdp: {device: eth0, mode: auto}   # where XDP programs go (or are watched): a name, or default-route; native, generic, or what goes

It lies beside the object, which may be in a store that nobody writes to. So a node's own file has precedence over it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from .document import Mistakes, Part, read
from .syscalls import names
from .xdp import XdpSettings, read_xdp

NODES_OWN = Path("/etc/g5kdeploy/bpf")
_MODE_METRIC = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Alternative:
    """One way to be a program: the configuration's name, and the word under which it is reported."""

    name: str
    mode: str
    line: int = 0


@dataclass(frozen=True)
class LoadSettings:
    """How to load a program. Without a file: nothing to set, no alternatives, everybody is counted."""

    file: Path | None = None
    alternatives: tuple[Alternative, ...] = ()
    mode_metric: str = ""
    values: dict[str, tuple[int | str, int]] = field(default_factory=dict)
    """Name → (value, line of the file)."""
    filter_cgroup: str = ""
    filter_tgid: int = 0
    filter_line: int = 0
    xdp: XdpSettings = field(default_factory=XdpSettings)
    calls: tuple[str, ...] = ()
    """Names of system calls; this machine need not have them all."""


def read_load_settings(folder: Path, name: str, mistakes: Mistakes) -> LoadSettings:
    """Read the node's own `name.load.yaml`, or else that of the folder; whatever is wrong is added to the mistakes."""
    places = (NODES_OWN / f"{name}.load.yaml", folder / f"{name}.load.yaml")
    file = next((place for place in places if place.exists()), None)
    if file is None:
        return LoadSettings()
    document = read(file, mistakes)
    if document is None:
        return LoadSettings(file)
    known = ("alternatives", "mode_metric", "values", "filter", "xdp", "calls")
    found = document.fields("load settings", dict.fromkeys(known, False))
    alternatives = _alternatives(found["alternatives"]) if "alternatives" in found else ()
    metric = found["mode_metric"].value("mode_metric", str) if "mode_metric" in found else ""
    if "mode_metric" in found and metric is not None and not _MODE_METRIC.fullmatch(metric):
        found["mode_metric"].wrong(f"{metric!r} cannot be the name of a metric")
    values: dict[str, tuple[int | str, int]] = {}
    if "values" in found:
        for key, part in found["values"].entries("values").items():
            if (value := _value(key, part)) is not None:
                values[key] = (value, part.line)
    cgroup, tgid, line = _filter(found["filter"]) if "filter" in found else ("", 0, 0)
    xdp = read_xdp(found["xdp"]) if "xdp" in found else XdpSettings()
    calls = _calls(found["calls"]) if "calls" in found else ()
    return LoadSettings(file, alternatives, metric or "", values, cgroup, tgid, line, xdp, calls)


def _alternatives(part: Part) -> tuple[Alternative, ...]:
    chosen = []
    for item in part.items("alternatives"):
        found = item.fields("an alternative", {"name": True, "mode": True})
        words = [
            found[key].value(f"{key} of an alternative", str) if key in found else None for key in ("name", "mode")
        ]
        if all(words):
            chosen.append(Alternative(str(words[0]), str(words[1]), item.line))
    if not part.mistakes and not chosen:
        part.wrong("alternatives must name at least one program")
    return tuple(chosen)


def _calls(part: Part) -> tuple[str, ...]:
    calls = [call for item in part.items("calls") if (call := item.value("a system call's name", str)) is not None]
    for call in calls:
        if call not in names():
            part.wrong(f"there is no system call {call}")
    return tuple(calls)


def _value(key: str, part: Part) -> int | str | None:
    """A number if it is written as one, otherwise text."""
    text = part.value(f"{key} of values", str)
    if text is None:
        return None
    if not getattr(part.node, "style", None) and re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)", text):
        return int(text, 0) if "x" in text else int(text)
    return str(text)


def _filter(part: Part) -> tuple[str, int, int]:
    found = part.fields("filter", {"cgroup": False, "tgid": False})
    cgroup = found["cgroup"].value("cgroup of filter", str) if "cgroup" in found else ""
    if cgroup and not cgroup.startswith("/"):
        found["cgroup"].wrong("cgroup of filter must be a path from /, such as /sys/fs/cgroup/system.slice")
    tgid = found["tgid"].value("tgid of filter", int) if "tgid" in found else 0
    if "tgid" in found and tgid is not None and not 0 < tgid < 1 << 22:
        found["tgid"].wrong("tgid of filter must be the number of a process")
    return cgroup or "", tgid or 0, part.line
