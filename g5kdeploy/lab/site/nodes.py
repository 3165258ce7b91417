"""A node: a QEMU machine with a disk, a console log and a memory of what it runs."""

from __future__ import annotations

import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base import cpio, files, text
from g5kdeploy.base.cpio import Entry
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.site import disk
from g5kdeploy.lab.site.disk import Partition
from g5kdeploy.lab.site.names import Names
from g5kdeploy.lab.site.namespace import Namespace
from g5kdeploy.lab.site.systems import System
from g5kdeploy.qemu import Disk, Machine, MachineSpec, Tap

GREETING_SECONDS = 60
_GREETING = f"""
import socket, sys
with socket.create_connection((sys.argv[1], 22), 10) as channel:
    channel.settimeout({GREETING_SECONDS})
    print(channel.recv(64).decode("ascii", "replace"))
"""
CONSOLE_LINES = 12  # of a machine that failed, told to the user


class NodeFailed(Problem):
    """A node did not come up."""


@dataclass(frozen=True)
class Hardware:
    """What each node has: memory in MiB, processors."""

    memory: int
    cpus: int


class Node:
    """One node of the site. Its folder holds `disk`, `console.log`, `initrd`, `node.json` and the machine's sockets."""

    def __init__(self, site: Names, index: int, folder: Path, hardware: Hardware, namespace: Namespace) -> None:
        self.site = site
        self.index = index
        self.name = site.node(index)
        self.vlan: int | None = None  # the one that it was deployed into
        self.folder = folder
        self.console = folder / "console.log"
        self.use = (
            threading.RLock()
        )  # held for as long as a boot takes: by a deployment, or by a job's beginning and end
        self.lock = threading.RLock()  # held for a moment: around what changes machine and disk
        self._hardware = hardware
        self._namespace = namespace
        self._machine: Machine | None = None

    @property
    def address(self) -> str:
        """Its address, in its VLAN if it was deployed into one."""
        return self.site.node_ip(self.index, self.vlan)

    @property
    def disk_file(self) -> Path:
        return self.folder / "disk"

    @property
    def runs(self) -> str:
        """Name of the environment that it was booted into last; empty before the first boot and on a fresh disk."""
        record = self.folder / "node.json"
        return str(files.read_json(record).get("runs", "")) if record.exists() else ""

    def on(self) -> bool:
        return self._machine is not None and self._machine.alive()

    def power_off(self) -> None:
        """Cut the power."""
        with self.lock:
            if self._machine is not None:
                self._machine.stop()

    def reset(self) -> None:
        """Press the reset button; a machine that is off is switched on."""
        with self.lock:
            if self._machine is not None and self._machine.alive():
                self._machine.reset()
            else:
                self.power_on(Deadline.after(60, f"power for {self.name}"))

    def power_on(self, deadline: Deadline) -> None:
        """Switch on, into what it ran last; raises when it never ran anything."""
        with self.lock:
            if self.on():
                return
            record = self.folder / "node.json"
            if not record.exists():
                raise NodeFailed(f"{self.name} has nothing to boot", cause="its disk is empty")
            kept = files.read_json(record)
            initrd = Path(kept["initrd"]) if kept["initrd"] else None
            self._start(Path(kept["kernel"]), initrd, kept["append"], deadline, guarded=False)

    def forget(self) -> None:
        """Off, and with no system on its disk. As on the real site the scratch partition stays as the job left it."""
        with self.lock:
            self.power_off()
            (self.folder / "node.json").unlink(missing_ok=True)
            if not self.disk_file.exists():
                return
            deadline = Deadline.after(60, f"the disk of {self.name}")
            for name, where in disk.partitions(self.disk_file, deadline).items():
                if name in (disk.PROD, disk.DEPLOY):
                    (self.folder / f"{name}.json").unlink(missing_ok=True)
                    disk.clear(where, deadline)

    def ensure_disk(self, deadline: Deadline) -> dict[str, Partition]:
        """The disk's partitions; the disk is made, or made anew when its table is not the site's any more."""
        with self.lock:
            wanted = {disk.SWAP, disk.PROD, disk.DEPLOY, disk.TMP}
            found = disk.partitions(self.disk_file, deadline) if self.disk_file.exists() else {}
            if not wanted <= found.keys():
                disk.make(self.disk_file, deadline)
                found = disk.partitions(self.disk_file, deadline)
            return found

    def install(self, system: System, entries: dict[str, Entry], deadline: Deadline, *, keep: bool = False) -> None:
        """Write a system onto its partition and prepare its boot. The machine must be off.

        `keep`: leave the partition as it is when it has this very image already.
        """
        with self.lock:
            where = self.ensure_disk(deadline)[system.partition]
            stamp = self.folder / f"{system.partition}.json"
            mark = {
                "image": str(system.image),
                "at": system.image.stat().st_mtime,
                "disk": self.disk_file.stat().st_ino,
            }
            if not (keep and stamp.exists() and files.read_json(stamp) == mark):
                stamp.unlink(missing_ok=True)
                disk.fill(where, system.image, deadline)
                files.write_json(stamp, mark)
            if system.handover:
                initrd: Path | None = self._initrd(system, entries)
            else:
                initrd = system.initrd
                _into_filesystem(where, entries, self.folder, deadline)
            self.boots(system, initrd)

    def boots(self, system: System, initrd: Path | None) -> None:
        """Note what is booted next: a system that is on its partition, with that initrd."""
        record = {
            "runs": system.name,
            "kernel": str(system.kernel),
            "initrd": str(initrd) if initrd else "",
            "append": system.append,
        }
        files.write_json(self.folder / "node.json", record)

    def _initrd(self, system: System, entries: dict[str, Entry]) -> Path:
        """The system's initrd with the hand-over behind it."""
        own = self.folder / "initrd"
        aside = self.folder / ".initrd.new"
        with aside.open("wb") as file:
            aside.chmod(0o600)  # a host key is in it
            if system.initrd is not None:
                with system.initrd.open("rb") as source:
                    shutil.copyfileobj(source, file)
                file.write(bytes(-file.tell() % 512))
            file.write(cpio.archive(entries))
        aside.replace(own)
        return own

    def boot(self, deadline: Deadline, stopped: threading.Event | None = None) -> None:
        """Start into what was installed, and wait until its SSH server answers.

        Raises `NodeFailed` with the console's last words when the machine ends, or resets, before that, and when
        `stopped` is set.
        """
        with self.lock:
            self.power_off()
            kept = files.read_json(self.folder / "node.json")
            initrd = Path(kept["initrd"]) if kept["initrd"] else None
            begin = self.console.stat().st_size if self.console.exists() else 0
            self._start(Path(kept["kernel"]), initrd, kept["append"], deadline, guarded=True)
            machine = self._machine
        assert machine is not None
        while not self.answers(deadline):
            said = self.said(begin)
            if not machine.alive() or "Kernel panic" in said:
                raise NodeFailed(f"{self.name} did not boot", cause=text.tail(said, CONSOLE_LINES), log=self.console)
            if stopped is not None and stopped.is_set():
                self.power_off()
                raise NodeFailed(f"{self.name} did not boot", cause="the deployment was canceled")
            if deadline.passed():
                raise deadline.error(text.tail(said, CONSOLE_LINES))
            deadline.sleep(min(1.0, deadline.remaining()))
        machine.qmp("set-action", reboot="reset")

    def said(self, begin: int) -> str:
        """What the console said from that byte of its log on, cleaned."""
        try:
            with self.console.open("rb") as file:
                file.seek(begin)
                return text.clean(file.read().decode(errors="replace"))
        except FileNotFoundError:
            return ""

    def answers(self, deadline: Deadline) -> bool:
        """Does an SSH server answer on the node?

        One connection, and only its greeting is read: a key exchange costs an emulated machine a second, and several of
        them at once keep it from ever getting up.
        """
        words = [sys.executable, "-I", "-S", "-c", _GREETING, self.address]
        limit = deadline.within(GREETING_SECONDS + 30, f"an SSH server on {self.name}")
        try:
            return self._namespace.run(words, limit, check=False).stdout.startswith("SSH-")
        except Problem:
            return False

    def _start(self, kernel: Path, initrd: Path | None, append: str, deadline: Deadline, *, guarded: bool) -> None:
        """`guarded`: a guest that resets ends, so that a boot that fails is seen at once."""
        spec = MachineSpec(
            name=self.name,
            folder=self.folder,
            console=self.console,
            kernel=kernel,
            initrd=initrd,
            append=append,
            memory=self._hardware.memory,
            cpus=self._hardware.cpus,
            disks=(Disk(self.disk_file, serial=disk.NAME),),
            nics=(Tap(self.site.short(self.index), self.site.node_mac(self.index)),),
            prefix=self._namespace.enter(),
            extra=("-action", "reboot=shutdown") if guarded else (),
        )
        self._machine = Machine(spec)
        self._machine.start(deadline)


def _into_filesystem(where: Partition, entries: dict[str, Entry], folder: Path, deadline: Deadline) -> None:
    """Write the hand-over's files into an ext4 filesystem, as a post-installation does."""
    commands: list[str] = []
    made: set[str] = set()
    scratch = folder / "handover"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    try:
        for number, (path, entry) in enumerate(sorted(entries.items())):
            target = "/" + path.removeprefix("handover/")
            parents = [str(parent) for parent in reversed(Path(target).parents) if str(parent) != "/"]
            commands += [f"mkdir {parent}" for parent in parents if parent not in made]
            made |= set(parents)
            source = scratch / str(number)
            source.write_bytes(entry.content)
            commands += [f"rm {target}", f"write {source} {target}"]
            commands += [f"set_inode_field {target} mode 0{0o100000 | entry.mode:o}"]
            commands += [f"set_inode_field {target} {field} 0" for field in ("uid", "gid")]
        disk.debugfs(where, commands, deadline)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
