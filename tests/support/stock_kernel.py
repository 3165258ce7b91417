"""One machine with a distribution's kernel and all of its modules, for everything that is tested on that kernel.

Its root is this machine's own, read only, under a layer with the kernel's modules and a few packages (an NFS server, say)
and a layer in memory: scripts may write wherever they like. tests/vm/guest/stock.py is its init.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from g5kdeploy.base import cpio
from g5kdeploy.base.apt import Apt
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.qemu import Disk, Machine, MachineSpec, Share
from tests.support.lab import CACHE, ROOT

PACKAGES = (
    *("busybox-static", "kmod", "libkmod2", "iproute2", "procps", "libproc2-0", "libbpf1", "libelf1"),
    *(
        "nfs-kernel-server",
        "nfs-common",
        "libnfsidmap1",
        "libevent-core-2.1-7",
        "libtirpc3",
        "libtirpc-common",
        "libwrap0",
    ),
    *("bindfs", "libfuse2"),
    *("keyutils", "libkeyutils1", "libcap2", "libsqlite3-0", "libmount1"),
    *(
        "e2fsprogs",
        "libext2fs2",
        "libcom-err2",
        "libss2",
        "xfsprogs",
        "libinih1",
        "liburcu8",
        "libedit2",
        "libbsd0",
        "libmd0",
    ),
)
"""What the layer has besides the kernel: all that scripts run, so that little is asked of this machine."""
GROUPS = ("node", "storage", "network", "frames", "attached", "mock", "late")
"""The scripts of tests/vm/guest that want such a machine."""
NEWER = "trixie"
"""The release of Debian whose kernel is tested beside this machine's own; Grid'5000 deploys it, too."""
FIRST = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""Modules without which there is no root."""
_UNUSED = (
    "gpu",
    "net/ethernet",
    "net/wireless",
    "media",
    "staging",
    "infiniband",
    "scsi",
    "iio",
    "hwmon",
    "usb",
    "input",
    "hid",
    "mtd",
    "isdn",
    "power",
)

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /dev /lower /layer /upper /root
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /order); do /bin/busybox insmod /modules/$module; done
options=trans=virtio,version=9p2000.L,cache=loose,msize=262144
/bin/busybox mount -t 9p -o ro,$options root /lower
/bin/busybox mount -t 9p -o ro,$options layer /layer
/bin/busybox mount -t tmpfs upper /upper
/bin/busybox mkdir /upper/files /upper/work
/bin/busybox mount -t overlay -o lowerdir=/layer:/lower,upperdir=/upper/files,workdir=/upper/work root /root
/bin/busybox mount -t devtmpfs dev /root/dev
exec /bin/busybox switch_root /root "$@"
"""


@dataclass(frozen=True)
class Kernel:
    """The kernel's image, and the folder that is laid over the machine's root."""

    image: Path
    layer: Path
    release: str


def fetched(release: str, packages: tuple[str, ...], deadline: Deadline) -> tuple[str, list[Path]]:
    """The newest kernel of a release of Debian (without a name: this machine's), and the .debs of it and of packages.

    They come out of the cache that all tests share.
    """
    role = {"packages": list(packages), "kernel": "linux-image-amd64", "without": []}
    apt = Apt(CACHE / "-".join(filter(None, ("debian", release))), release)
    lock = json.loads(apt.lock({"scriptsOnly": [], "webOnly": [], "roles": {"stock": role}}, deadline).read_text())
    kernel: str = lock["roles"]["stock"]["kernel"]
    return kernel, [apt.debs / lock["packages"][package]["file"] for package in (kernel, *packages)]


def why_no_newer_kernel() -> str:
    """Empty when the kernel of NEWER is in the cache by now."""
    try:
        fetched(NEWER, (), Deadline.after(300, f"the kernel of Debian's {NEWER}"))
    except Problem as problem:
        return f"needs the kernel of Debian's {NEWER}, which this machine's mirrors do not give: {problem}"
    return ""


def unpacked(folder: Path, release: str, deadline: Deadline) -> Kernel:
    """A release's kernel, and PACKAGES of this machine's own."""
    kernel, files = fetched("", PACKAGES, deadline)
    if release:
        kernel, files[:1] = fetched(release, (), deadline)
    layer = folder / "layer"
    layer.mkdir()
    for file in files:
        _unpack(file, layer)
    version = kernel.removeprefix("linux-image-")
    # Later releases compress their modules: here that is undone in a second, in the machine it would be in every modprobe.
    modules = layer / "usr" / "lib" / "modules" / version
    for words in (
        ("find", str(modules), "-name", "*.ko.xz", "-exec", "xz", "-d", "{}", "+"),
        ("depmod", "-b", str(layer / "usr"), version),
    ):
        subprocess.run(words, check=True, timeout=deadline.remaining())
    return Kernel(layer / "boot" / f"vmlinuz-{version}", layer, version)


def build_programs(folder: Path) -> None:
    """All programs, and those that only tests have: they lie beside the scripts that use them."""
    subprocess.run(["make", "--silent", "-C", str(ROOT / "bpf"), f"BUILD={folder}"], check=True, timeout=300)
    sources = folder / "sources"
    shutil.copytree(ROOT / "bpf" / "include", sources / "include")
    for file in (ROOT / "bpf" / "Makefile", *(ROOT / "tests" / "vm" / "guest").glob("*.bpf.c")):
        shutil.copy(file, sources)
    for file in (ROOT / "tests" / "vm" / "guest").glob("*.yaml"):
        shutil.copy(file, sources)
    for kind in ("bpf.c", "yaml"):  # on an event that every machine has
        text = (ROOT / "bpf" / f"llc.{kind}").read_text()
        (sources / f"llc_clock.{kind}").write_text(re.sub(r"type=0,config=\d", "type=1,config=0", text))
    subprocess.run(["make", "--silent", "-C", str(sources), f"BUILD={folder}"], check=True, timeout=300)
    shutil.rmtree(sources)


def _unpack(package: Path, layer: Path) -> None:
    """A package's files as on a system whose /bin, /sbin and /lib are in /usr; without documents and unused drivers."""
    unused = tuple(f"/kernel/{'sound' if name == 'sound' else f'drivers/{name}'}/" for name in ("sound", *_UNUSED))
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            archive.extraction_filter = lambda member, path: member  # a keyword of extract() only since Python 3.11.4
            for member in archive:
                path = member.name.removeprefix("./")
                if path.startswith(("usr/share/doc/", "usr/share/man/", "usr/share/locale/")) or any(
                    part in f"/{path}" for part in unused
                ):
                    continue
                top = path.split("/", 1)[0]
                if path in ("bin", "sbin", "lib", "lib64") or member.isdir():
                    continue
                member.name = f"usr/{path}" if top in ("bin", "sbin", "lib", "lib64") else path
                archive.extract(member, layer)
    assert process.returncode == 0, f"{package} cannot be unpacked"


def _initrd(kernel: Kernel, file: Path) -> None:
    folder = kernel.layer / "usr" / "lib" / "modules" / kernel.release
    needs: dict[str, list[str]] = {}
    for line in (folder / "modules.builtin").read_text().splitlines():
        needs[Path(line).stem] = []
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).stem] = [path, *others.split()]
    # A module's dependencies are told deepest last.
    order = list(dict.fromkeys(path for name in FIRST for path in reversed(needs[name])))
    busybox = kernel.layer / "usr" / "bin" / "busybox"
    entries = {"bin/busybox": cpio.Entry(busybox.read_bytes(), 0o755), "init": cpio.Entry(INIT.encode(), 0o755)}
    entries["order"] = cpio.Entry(" ".join(Path(path).name for path in order).encode())
    entries |= {f"modules/{Path(path).name}": cpio.Entry((folder / path).read_bytes()) for path in order}
    file.write_bytes(cpio.archive(entries))


def boot(folder: Path, programs: Path, release: str) -> dict[str, Any]:
    """Run GROUPS, scripts of tests/vm/guest, one after the other; what each of them saw, by its name."""
    deadline = Deadline.after(1700, f"the machine with the kernel of {release or 'this distribution'}")
    kernel = unpacked(folder, release, deadline)
    (folder / "out").mkdir()
    cases = ROOT / "tests" / "vm" / "guest" / "mock_cases.c"
    binary = folder / "out" / "mock_cases"
    subprocess.run(["gcc", "-O2", "-Wall", "-static", "-o", str(binary), str(cases)], check=True, timeout=300)
    out, console = folder / "out", ""
    left = list(GROUPS)
    for attempt in range(
        2
    ):  # emulated processors stumble, rarely, over code that the kernel is patching: a panic of its own
        console = _run(folder / f"boot-{attempt}", kernel, programs, left, out, deadline)
        left = [group for group in GROUPS if not (out / f"{group}.json").exists()]
        if not left:
            break
    return {
        group: {"error": console[-3000:]} if group in left else json.loads((out / f"{group}.json").read_text())
        for group in GROUPS
    }


def _run(folder: Path, kernel: Kernel, programs: Path, groups: list[str], out: Path, deadline: Deadline) -> str:
    """One boot, in which each group writes what it saw into `out`; what the console said."""
    folder.mkdir()
    _initrd(kernel, folder / "initrd")
    disks = [folder / "disk-a", folder / "disk-b"]
    for disk in disks:
        with disk.open("wb") as file:
            file.truncate(512 << 20)
    script = ROOT / "tests" / "vm" / "guest" / "stock.py"
    words = [sys.executable, script, ROOT, programs, Path(yaml.__file__).parents[1], *groups]
    machine = Machine(
        MachineSpec(
            "stock",
            folder / "machine",
            folder / "console",
            kernel.image,
            folder / "initrd",
            append=f"console=ttyS0 panic=-1 quiet -- {' '.join(map(str, words))}",
            memory=1536,
            disks=tuple(map(Disk, disks)),
            shares=(Share(Path("/"), "root"), Share(kernel.layer, "layer"), Share(out, "out", readonly=False)),
            extra=("-no-reboot",),
        )
    )
    machine.start(deadline)
    try:
        while machine.alive():
            deadline.sleep(0.5, machine.console_text()[-500:])
    finally:
        machine.stop()
    return machine.console_text()


def missing() -> list[str]:
    """What this machine lacks for that."""
    wanted = ("qemu-system-x86_64", "apt-get", "dpkg-deb", "depmod", "clang", "gcc")
    return [name for name in wanted if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All objects, for whichever kernel."""
    if absent := missing():
        pytest.skip(f"needs {absent}")
    folder = tmp_path_factory.mktemp("programs")
    build_programs(folder)
    return folder


@pytest.fixture(scope="session")
def own_kernel(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> dict[str, Any]:
    """What all groups saw on this distribution's kernel, from one boot."""
    return boot(tmp_path_factory.mktemp("own"), programs, "")


@pytest.fixture(scope="session")
def newer_kernel(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> dict[str, Any]:
    """What they saw on the next release's; skipped where the machine's mirrors do not have that."""
    if reason := why_no_newer_kernel():
        pytest.skip(reason)
    return boot(tmp_path_factory.mktemp("newer"), programs, NEWER)


@pytest.fixture(params=["own_kernel", "newer_kernel"])
def stock_kernel(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What all groups saw, on each of the two kernels."""
    seen: dict[str, Any] = request.getfixturevalue(request.param)
    return seen


def version(release: str) -> tuple[int, ...]:
    """A kernel's version, to be compared."""
    return tuple(map(int, release.split(".")[:2]))


@dataclass(frozen=True)
class Watched:
    """What a scenario saw: samples before and after its events, and whatever else it noted."""

    notes: dict[str, Any]

    def grown(self, name: str, **labels: str) -> float:
        """By how much a metric's samples with these labels (and any others) have grown, all together."""
        return self._sum("after", name, labels) - self._sum("before", name, labels)

    def mean(self, name: str, **labels: str) -> float:
        """The mean of what a histogram got meanwhile, in its own unit. At least one event is asserted."""
        count = self.grown(f"{name}_count", **labels)
        assert count > 0, f"nothing was counted in {name} {labels}"
        return self.grown(f"{name}_sum", **labels) / count

    def _sum(self, when: str, name: str, labels: dict[str, str]) -> float:
        found = re.compile(rf"ebpf_exporter_{name}(\{{.*\}})?$")
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples: dict[str, float] = self.notes[when]
        return sum(v for k, v in samples.items() if found.match(k) and all(pair in k for pair in wanted))


def watched(seen: dict[str, Any], group: str, scenario: str) -> Watched:
    """What a scenario of a group saw; fails with the machine's own words where it broke."""
    assert "error" not in seen[group], seen[group]["error"]
    notes = seen[group][scenario]
    assert "error" not in notes, notes["error"]
    return Watched(notes)


if __name__ == "__main__" and (reason := why_no_newer_kernel()):
    sys.stderr.write(f"{reason}\n")
