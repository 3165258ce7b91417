"""Does KVM work here? Asked of a guest, because a /dev/kvm that hangs or refuses is common."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

from g5kdeploy.base import files, folders, process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.qemu.spec import QEMU

# A boot sector that enters 64-bit mode with paging, counts to 200000, leaves for CPUID 200 times, and then ends QEMU
# through its debug exit device with 0x21. Its source, for GNU as, is probe.s.
_CODE = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007066bf001000000f22df6631c066b9000c0000fc6766f3ab66c70600100320000066c70600200330000066c706003083"
    "0000000f20e06683c8200f22e066b9800000c00f32660d000100000f300f20c0660d010000800f22c00f0116c07cea6e7c0800b9400d0300f04883"
    "04250040000001ffc975f2bbc800000031c00fa289db488b1c250840000048ffc348891c25084000004881fbc800000072deb021e6f4f4ebfd9000"
    "0000000000000000000000009a20000f00b07c0000"
)
_SECTOR = _CODE.ljust(510, b"\0") + b"\x55\xaa"
_STATUS = (0x21 << 1) | 1
# KVM takes a fifth of a second for it, emulation less than a tenth; where nested virtualisation is itself emulated it
# takes several, and no kernel gets through its decompression.
PROBE_SECONDS = 2.5
ASK_AGAIN_SECONDS = 3600.0  # a refusal may have come from a busy machine


def _identity() -> str:
    """What the answer depends on: this boot of this machine, the device, and the user's right to it."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    device = Path("/dev/kvm").stat()
    return f"{boot} {device.st_rdev} {device.st_mode} {device.st_gid} {os.geteuid()}"


def _guest_boots(deadline: Deadline) -> bool:
    with tempfile.TemporaryDirectory(prefix="g5kdeploy-kvm-") as folder:
        sector = Path(folder) / "sector"
        sector.write_bytes(_SECTOR)
        words = [
            QEMU,
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-m",
            "32M",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ]
        words += ["-drive", f"file={sector},format=raw,if=ide", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        try:
            return process.run(words, deadline, check=False).returncode == _STATUS
        except DeadlinePassed:
            return False


def kvm_works(deadline: Deadline) -> bool:
    """True when a guest was seen to run well under KVM.

    Takes at most 2.5 s; the answer is kept for this boot of the machine (a refusal for an hour).
    """
    try:
        identity = _identity()
    except OSError:
        return False
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    record = folders.cache() / "kvm.json"
    try:
        known = files.read_json(record)
        fresh = known.get("works") or 0 <= time.time() - known.get("at", 0) < ASK_AGAIN_SECONDS
        if known.get("identity") == identity and fresh:
            return bool(known.get("works"))
    except (Problem, AttributeError, TypeError):
        pass  # never asked, or the record is damaged: ask again
    works = _guest_boots(deadline.within(PROBE_SECONDS, "the KVM probe"))
    with contextlib.suppress(OSError):  # a full disk: it will be asked again
        files.write_json(record, {"identity": identity, "works": works, "at": time.time()})
    return works
