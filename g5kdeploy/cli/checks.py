"""What `doctor` looks at, one function a thing; each says what it found and which command mends it."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from g5kdeploy.base import folders, process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import human_bytes, human_seconds

LEAST_NIX = (2, 8)
LEAST_MEMORY, LEAST_DISK = 4 << 30, 6 << 30  # bytes: two nodes of the lab, and what is built for them
GATEWAY = "access.grid5000.fr"  # of every testbed; whose it is the SSH configuration of its home says
LARGEST_SKEW = 30.0  # seconds between this machine's clock and the testbed's


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `state`: ok, warning (works without), missing (does not)."""

    name: str
    state: str
    found: str
    needed_for: str = ""
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# Program -> Debian's package and what it is for.
PROGRAMS = {
    "nix": ("nix-bin", "build, push"),
    "qemu-system-x86_64": ("qemu-system-x86", "vmtest, lab"),
    "qemu-img": ("qemu-utils", "lab"),
    "ssh": ("openssh-client", "push, deploy, ssh"),
    "sshd": ("openssh-server", "lab"),
    "ip": ("iproute2", "lab"),
    "dnsmasq": ("dnsmasq-base", "lab"),
    "clang": ("clang", "build"),
    "cc": ("gcc", "build"),
    "make": ("make", "build"),
    "apt-get": ("apt", "build"),
    "dpkg-deb": ("dpkg", "build"),
    "cpio": ("cpio", "build, vmtest"),
    "zstd": ("zstd", "build"),
    "mksquashfs": ("squashfs-tools", "lab"),
    "mkfs.ext4": ("e2fsprogs", "lab"),
    "sfdisk": ("fdisk", "lab"),
}


ELSEWHERE = {"build", "push", "vmtest", "lab"}
"""What another machine than a frontend does."""


def install(package: str) -> str:
    """The command that brings a Debian package here."""
    return f"apt-get install {package}" if shutil.which("apt-get") else "nix develop"


def python() -> Finding:
    """The interpreter that runs this."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version}, {sys.executable}", "everything")


def programs() -> Iterator[Finding]:
    """Every program that is called, and where it is. A frontend can do without those that build, and run machines."""
    from g5kdeploy.testbed import credentials

    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    shared = credentials.is_frontend()
    for name, (package, use) in PROGRAMS.items():
        place = shutil.which(name, path=path)
        if place:
            yield Finding(name, "ok", place, use)
        elif ELSEWHERE.issuperset(use.split(", ")) and shared:
            yield Finding(name, "warning", "not on PATH", use, "build and push elsewhere, here: run --manifest")
        else:
            yield Finding(name, "missing", "not on PATH", use, install(package))


def nix(deadline: Deadline) -> Iterator[Finding]:
    """Nix's version; nothing when there is no Nix, which `programs` tells."""
    if shutil.which("nix") is None:
        return
    done = process.run(["nix", "--version"], deadline, check=False)
    match = re.search(r"(\d+)\.(\d+)", done.stdout)
    if match is None:
        yield Finding("nix version", "missing", done.stderr.strip() or "unknown", "build, push", install("nix-bin"))
    elif (int(match[1]), int(match[2])) < LEAST_NIX:
        least = ".".join(map(str, LEAST_NIX))
        yield Finding("nix version", "missing", f"{match[0]}, wanted {least}", "build, push", install("nix-bin"))
    else:
        yield Finding("nix version", "ok", done.stdout.strip(), "build, push")


def kvm(deadline: Deadline) -> Finding:
    """Whether a guest boots with KVM; without it everything works, slower."""
    if shutil.which("qemu-system-x86_64") is None:
        return Finding("kvm", "warning", "not tried: no QEMU", "fast vmtest and lab", install("qemu-system-x86"))
    from g5kdeploy.qemu import kvm_works

    if kvm_works(deadline):
        return Finding("kvm", "ok", "a guest boots with it", "fast vmtest and lab")
    why = "a guest does not boot with it" if Path("/dev/kvm").exists() else "no /dev/kvm"
    return Finding("kvm", "warning", why, "fast vmtest and lab", "works without it, about ten times slower")


def room() -> Iterator[Finding]:
    """Memory and disk."""
    with Path("/proc/meminfo").open() as file:
        match = re.search(r"MemAvailable:\s+(\d+) kB", file.read())
    free = int(match[1]) * 1024 if match else 0
    state = "ok" if free >= LEAST_MEMORY else "warning"
    mend = "" if state == "ok" else f"close something: the lab's two nodes want {human_bytes(LEAST_MEMORY)}"
    yield Finding("memory", state, f"{human_bytes(free)} available", "lab, vmtest", mend)
    for name, folder in (("state folder", folders.state()), ("cache folder", folders.cache())):
        place = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(place).free
        if not place.is_dir() or not os.access(place, os.W_OK):
            yield Finding(
                name, "missing", f"{folder} cannot be written", "everything", "set G5KDEPLOY_HOME to a folder"
            )
        elif free < LEAST_DISK:
            yield Finding(name, "warning", f"{folder}: {human_bytes(free)} free", "everything", f"make room in {place}")
        else:
            yield Finding(name, "ok", f"{folder}: {human_bytes(free)} free", "everything")


def settings() -> Finding:
    """The user's configuration file."""
    from g5kdeploy.cli.settings import config_file, user_settings

    file = config_file()
    try:
        found = user_settings()
    except Problem as problem:
        return Finding("configuration", "missing", str(problem), "everything", f"edit {file}")
    return Finding("configuration", "ok", f"{file}: {len(found)} settings" if file.exists() else f"none ({file})")


def testbed(name: str, deadline: Deadline) -> Iterator[Finding]:
    """Credentials, API, gateway and clock of a testbed that was named."""
    from g5kdeploy.testbed import credentials, places

    use = "reserve, deploy"
    try:
        place = places.find(name)
        known = credentials.load(place.home, {} if name == places.LAB else os.environ)
    except Problem as problem:
        yield _unwell("credentials", problem, use)
        return
    yield Finding("credentials", "ok", f"{known.username or 'no name'}, from {known.origin or place.home}", use)
    try:
        with places.connect(place) as api:
            began = time.monotonic()
            sites = api.items("/sites", deadline.within(30, f"an answer of {known.uri}"))
            took = human_seconds(round(time.monotonic() - began, 1))
        yield Finding("API", "ok", f"{known.uri}: {len(sites)} sites, after {took}", use)
    except Problem as problem:
        yield _unwell("API", problem, use)
        return
    yield from _over_ssh(place.home, known.username, deadline)


def _over_ssh(home: Path, user: str | None, deadline: Deadline) -> Iterator[Finding]:
    """One login tells whether SSH works and what time it is there."""
    from g5kdeploy.node import Reach

    with Reach(home, user) as reach:
        try:
            before = time.time()
            login = reach.remote(GATEWAY, user=None)
            there = float(login.run("date +%s", deadline.within(45, f"a login on {GATEWAY}")).stdout)
            after = time.time()
        except Problem as problem:
            yield _unwell("SSH", problem, "push, deploy")
            return
    yield Finding("SSH", "ok", f"{GATEWAY} lets us in", "push, deploy")
    skew = max(0.0, before - there - 1, there - after)  # it tells whole seconds
    state = "ok" if skew <= LARGEST_SKEW else "warning"
    mend = "" if state == "ok" else "timedatectl set-ntp true"
    yield Finding("clock", state, f"{human_seconds(round(skew, 1))} away from {GATEWAY}", "comparing times", mend)


def _unwell(name: str, problem: Problem, use: str) -> Finding:
    return Finding(name, "missing", str(problem), use, problem.hint or "see the message")


def all_findings(testbed_name: str | None, deadline: Deadline) -> list[Finding]:
    """Look at everything; at a testbed only when it was named."""
    return [
        python(),
        *programs(),
        *nix(deadline.within(30, "nix --version")),
        kvm(deadline.within(60, "a guest with KVM")),
        *room(),
        settings(),
        *(testbed(testbed_name, deadline) if testbed_name else ()),
    ]
