"""Letting go of the capabilities that loading took, once everything is attached.

They belong to threads, and a thread gets those of the one that starts it: so each thread of ours lets go of them for itself
before it does anything else, and only the main thread keeps them while a program waits for its module.
"""

from __future__ import annotations

import ctypes as ct
import logging
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the kernel's probe needs no YAML
    from .config import Config

log = logging.getLogger(__name__)

_WORDS = """
chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin
sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore
"""
NAMES = _WORDS.split()
"""By their numbers, from 0."""
SYS_ADMIN, SYSLOG, PERFMON, BPF = (NAMES.index(name) for name in ("sys_admin", "syslog", "perfmon", "bpf"))
_CAPABILITY_VERSION = 0x20080522
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38
_READS_ADDRESSES = {"ksym", "kstack"}


def effective(status: Path = Path("/proc/self/status")) -> int:
    """The effective capabilities of this process, a bit each."""
    for line in status.read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def text(bits: int) -> str:
    """Capabilities by their names, such as `cap_syslog,cap_bpf`; `none`."""
    named = [f"cap_{name}" for number, name in enumerate(NAMES) if bits >> number & 1]
    return ",".join(named) or "none"


def parse(words: str) -> int | None:
    """The bits of `all`, `none` or a list such as cap_bpf,cap_syslog; None for `needed`. `ValueError` for others."""
    if words == "needed":
        return None
    if words in {"all", "none"}:
        return (1 << len(NAMES)) - 1 if words == "all" else 0
    bits = 0
    for word in words.lower().split(","):
        name = word.strip().removeprefix("cap_")
        if name not in NAMES:
            raise ValueError(f"unknown capability {word!r}; known: cap_{', cap_'.join(NAMES)}; or all, none, needed")
        bits |= 1 << NAMES.index(name)
    return bits


def needed(configs: Iterable[Config], release: str = "") -> int:
    """What serving takes once everything is attached: names of addresses want CAP_SYSLOG, and before Linux 5.19 even a
    map whose descriptor one holds is read with CAP_BPF only.
    """
    bits = 0
    decoders = {
        d.name for config in configs for metric in config.metrics for label in metric.labels for d in label.decoders
    }
    if decoders & _READS_ADDRESSES:
        bits |= 1 << SYSLOG
    version = re.match(r"(\d+)\.(\d+)", release or platform.release())
    if version is None or (int(version[1]), int(version[2])) < (5, 19):
        bits |= 1 << BPF
    return bits


class Rights:
    """What --capabilities.keep asks for: each thread of ours calls `drop`."""

    def __init__(self, words: str, needed_: int) -> None:
        bits = parse(words)
        self.keep = needed_ if bits is None else bits
        self.explicit = bits is not None
        """The user says what is kept, whatever still waits to be loaded."""
        loading = 1 << BPF | 1 << PERFMON
        self.load = self.keep & loading == loading or bool(self.keep >> SYS_ADMIN & 1)
        """What is kept is enough to load programs."""

    def drop(self) -> int:
        """Let go of the rest, in this thread and those that it starts. What is left, a bit each."""
        return drop(self.keep)


class _Header(ct.Structure):
    _fields_ = (("version", ct.c_uint32), ("pid", ct.c_int))


def drop(keep: int) -> int:
    """Take from this thread, and from all that it will start, every capability but `keep`. Those that are left.

    Raises `OSError` if the kernel refuses, which it does not for a subset of what is there.
    """
    libc = ct.CDLL(None, use_errno=True)
    header = _Header(_CAPABILITY_VERSION, 0)
    data = (ct.c_uint32 * 6)()  # effective, permitted, inheritable: their lower halves, then the upper
    if libc.capget(ct.byref(header), ct.byref(data)):
        raise OSError(ct.get_errno(), "capget")
    have = data[1] | data[4] << 32
    left = have & keep
    if left != have and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ct.get_errno(), "no_new_privs")
    for number in range(64):
        if libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1 and not keep >> number & 1:
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # refused without CAP_SETPCAP, and then of no matter
    low, high = left & 0xFFFFFFFF, left >> 32
    data[:] = [low, low, data[2] & low, high, high, data[5] & high]
    if libc.capset(ct.byref(header), ct.byref(data)):
        raise OSError(ct.get_errno(), f"capset: {os.strerror(ct.get_errno())}")
    return left
