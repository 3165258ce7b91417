"""What runs inside a namespace node in the place of kexec and of a machine's firmware. Needs nothing but Python.

`node_inside.py kexec ...` is the bundle's kexec; `node_inside.py reboot [RELEASE SYSTEM]` comes up in the base
environment, or in that system. /node is the node's folder, whose files say what the node is: boot_id, release, host_key;
and whose `knobs` say what goes wrong.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

NODE = Path("/node")
LOADED = Path("/run/loaded")
BASE_RELEASE = "6.1.0-base"


def members(archive: bytes) -> dict[str, bytes]:
    """The files of the cpio archive (newc) at the end of an initrd."""
    found: dict[str, bytes] = {}
    at = archive.index(b"070701")
    while True:
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, length = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        begin = (at + 110 + length + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = archive[begin : begin + size]
        at = (begin + size + 3) // 4 * 4


def end_everybody() -> None:
    """End every process of this node but its keeper and us, and see them gone: what a reboot does."""
    here = Path("/proc/self/ns/mnt").readlink()
    spared = {os.getpid(), int((NODE / "keeper").read_text())}

    def lives(entry: Path) -> bool:
        with contextlib.suppress(OSError):  # a dead one has no namespace
            return (entry / "ns/mnt").readlink() == here
        return False

    killed = []
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) not in spared and lives(entry):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
            killed.append(entry)
    end = time.monotonic() + 60
    while any(map(lives, killed)) and time.monotonic() < end:  # one may first finish what it was writing
        time.sleep(0.01)


def come_up(release: str, host_key: bytes | None, system: str) -> None:
    end_everybody()
    for folder in (Path("/run"), Path("/var/lib/g5kdeploy")):
        for entry in folder.iterdir():
            if entry.name == "sshd":
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    if host_key is not None:
        aside = NODE / "ssh" / "host_key.new"
        aside.write_bytes(host_key)
        aside.chmod(0o600)
        aside.replace(NODE / "ssh" / "host_key")
    if not os.path.ismount("/scratch"):
        subprocess.run(["/usr/bin/mount", "--bind", "/node/disk", "/scratch"], check=True)
    (NODE / "release").write_text(release + "\n")
    if system:
        Path("/run/current-system").symlink_to(system)
    (NODE / "system").write_text(system)
    (NODE / "boot_id").write_text(f"{uuid.uuid4()}\n")  # in place: it is mounted elsewhere. Last: this is the boot


def kexec(words: list[str]) -> None:
    if words[0] == "--load":
        options = dict(word[2:].split("=", 1) for word in words if "=" in word)
        release = (Path(words[1]).parent / "kernel-release").read_text().strip()
        LOADED.mkdir(parents=True, exist_ok=True)
        (LOADED / "release").write_text(release)
        (LOADED / "initrd").write_bytes(Path(options["initrd"]).read_bytes())
        (LOADED / "append").write_text(options["command-line"])
        (NODE / "append").write_text(options["command-line"])
        return
    if (NODE / "knobs" / "kexec-does-nothing").exists():
        return
    while (NODE / "knobs" / "kexec-waits").exists():
        (NODE / "waits").touch()
        time.sleep(0.05)
    key = members((LOADED / "initrd").read_bytes())["handover/etc/ssh/ssh_host_ed25519_key"]
    release = (LOADED / "release").read_text()
    [init] = re.findall(r"\binit=(\S+)", (LOADED / "append").read_text())
    if os.fork() == 0:
        os.setsid()
        come_up(release, key, os.path.dirname(init))  # noqa: PTH120
        os._exit(0)
    signal.pause()


if __name__ == "__main__":
    if sys.argv[1] == "kexec":
        kexec(sys.argv[2:])
    else:
        release, system = sys.argv[2:] or (BASE_RELEASE, "")
        come_up(release, None, system)
