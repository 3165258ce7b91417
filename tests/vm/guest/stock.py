"""The first process of a machine with the distribution's kernel: runs groups of scenarios, one process each.

    stock.py REPOSITORY PROGRAMS SITE_PACKAGES GROUP...

A group is a script beside this one. What it saw goes to the share `out` as GROUP.json; then the machine is switched off.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

REPOSITORY, PROGRAMS, PACKAGES = sys.argv[1:4]
OUT = Path("/run/out")
MODULES = "loop virtio_blk virtio_net veth tun ext4 crc32c_generic xfs fuse nfs nfsv4 nfsd sch_netem"


def mount(kind: str, source: str, where: str, options: str = "") -> None:
    subprocess.run(["mount", "-t", kind, *(["-o", options] if options else []), source, where], check=True)


def prepare() -> None:
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["HOME"] = "/root"
    mount("proc", "proc", "/proc")
    mount("sysfs", "sysfs", "/sys")
    mount("tmpfs", "tmpfs", "/run")
    mount("tracefs", "tracefs", "/sys/kernel/tracing")
    mount("cgroup2", "cgroup2", "/sys/fs/cgroup")
    OUT.mkdir()
    mount("9p", "out", str(OUT), "trans=virtio,version=9p2000.L")
    subprocess.run(["modprobe", "-a", *MODULES.split()], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def run(group: str) -> None:
    """A group that does not end by itself, or leaves nothing, is told so in its name."""
    out = OUT / f"{group}.json"
    words = [sys.executable, str(Path(__file__).with_name(f"{group}.py")), REPOSITORY, PROGRAMS, PACKAGES, str(out)]
    try:
        subprocess.run(words, check=True, timeout=800)
    except (subprocess.SubprocessError, OSError) as problem:
        if not out.exists():
            out.write_text(json.dumps({"error": str(problem)}))


def main() -> None:
    try:
        prepare()
        for group in sys.argv[4:]:
            run(group)
    except BaseException:
        for group in sys.argv[4:]:
            if not (OUT / f"{group}.json").exists():
                (OUT / f"{group}.json").write_text(json.dumps({"error": traceback.format_exc()}))
    os.sync()
    ctypes.CDLL(None).reboot(0x4321FEDC)


main()
