"""Programs of section perf_event/type=T,config=C,frequency=F: attached to such an event on every CPU that is online."""

from __future__ import annotations

import ctypes as ct
import os
import platform
import re
from pathlib import Path

from .libbpf import LibbpfError, Object, Program

SECTION = "perf_event/"
_SYSCALL = {"x86_64": 298, "aarch64": 241, "ppc64le": 319, "riscv64": 241}
_FREQUENCY, _CLOEXEC = 1 << 10, 8  # attr.freq among the flags of perf_event_attr; PERF_FLAG_FD_CLOEXEC
_KEYS = ("type", "config", "frequency")


class PerfEventError(Exception):
    """Why such a program is not attached, as a sentence."""


class _Attributes(ct.Structure):
    """struct perf_event_attr, its first version."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("size", ct.c_uint32),
        ("config", ct.c_uint64),
        ("sample", ct.c_uint64),
        ("sample_type", ct.c_uint64),
        ("read_format", ct.c_uint64),
        ("flags", ct.c_uint64),
        ("wakeup", ct.c_uint32),
        ("bp_type", ct.c_uint32),
        ("config1", ct.c_uint64),
    )


def parse(section: str) -> dict[str, int]:
    """The numbers of a section. `PerfEventError` if it is none."""
    found: dict[str, int] = {}
    for item in section.removeprefix(SECTION).split(","):
        key, _, number = item.partition("=")
        if key not in _KEYS or not re.fullmatch(r"\d+", number):
            raise PerfEventError(
                f"{item!r} in section {section} is not one of {', '.join(f'{k}=NUMBER' for k in _KEYS)}"
            )
        found[key] = int(number)
    return found


def online(file: Path = Path("/sys/devices/system/cpu/online")) -> list[int]:
    """The CPUs that are online, from such as 0-3,8."""
    cpus: list[int] = []
    for part in file.read_text().strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def attach(opened: Object, program: Program) -> None:
    """Attach on every CPU. `PerfEventError` where there is no such event, `LibbpfError` where the program does not fit."""
    wanted = parse(program.section)
    attributes = _Attributes(
        type=wanted.get("type", 0),
        size=ct.sizeof(_Attributes),
        config=wanted.get("config", 0),
        sample=wanted.get("frequency", 0),
        flags=_FREQUENCY if "frequency" in wanted else 0,
    )
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise PerfEventError(f"perf events are not known on {platform.machine()}")
    libc = ct.CDLL(None, use_errno=True)
    for cpu in online():
        event = libc.syscall(ct.c_long(number), ct.byref(attributes), -1, cpu, -1, ct.c_ulong(_CLOEXEC))
        if event < 0:
            raise PerfEventError(f"this machine has no perf event {program.section.removeprefix(SECTION)}: {_reason()}")
        try:
            opened.attach_perf_event(program, event)
        except LibbpfError:
            os.close(event)
            raise


def _reason() -> str:
    return os.strerror(ct.get_errno())
