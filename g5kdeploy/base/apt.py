"""Asking apt for the packages of systems: the only step of a nixpkgs-free build that touches the network.

apt does what it is good at (closure, signatures of the archive) in a root of its own, so that the machine's package
state neither matters nor changes. The lock names no host: a .deb is known by its SHA-256, and any mirror that has it
will do.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from g5kdeploy.base import files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.process import CommandFailed, run

FRESH = 24 * 3600.0  # seconds for which the archive's index is taken as it is
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_HINT = "is the machine's apt able to reach its mirrors? try: apt-get update"

Lock = dict[str, Any]
"""`{packages: {name: {version, sha256, size, file}}, roles: {name: {kernel, packages}}}`."""


class Apt:
    """An apt of our own in `folder`: index, downloaded .debs, locks.

    `release`: another one than the machine's (Debian 13 is `trixie`), from the same mirrors.
    """

    def __init__(self, folder: Path, release: str = "") -> None:
        self.folder = folder
        self.release = release
        self.debs = folder / "debs"

    def lock(self, plan: Mapping[str, Any], deadline: Deadline) -> Path:
        """The lock file for a plan (`nix/debian/plan.nix` evaluated), all of its .debs there.

        The same plan gives the same lock until the cache is deleted; nothing is asked of the network then.
        """
        asked = {
            "dropped": [plan["scriptsOnly"], plan["webOnly"]],
            "roles": {n: {k: r[k] for k in ("packages", "kernel", "without")} for n, r in plan["roles"].items()},
        }
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]
        path = self.folder / "locks" / f"{key}.json"
        with files.lock(self.folder / "lock", "the package cache", wait=deadline.remaining()):
            if path.exists() and self._complete(files.read_json(path), deadline):
                return path
            lock = self._resolve(plan, deadline)
            self._download(lock["packages"], deadline)
            files.write_json(path, lock)
        return path

    def _complete(self, lock: Lock, deadline: Deadline) -> bool:
        """Are all .debs of a lock here, or can they still be had? Mirrors forget old versions."""
        try:
            self._download(lock["packages"], deadline)
        except CommandFailed:
            return False
        return True

    def _options(self) -> list[str]:
        sources = ("-o", f"Dir::Etc::sourcelist={self.folder}/sources.list", "-o", "Dir::Etc::sourceparts=/dev/null")
        return [
            *(sources if self.release else ()),
            *("-o", f"Dir::State::Lists={self.folder}/lists", "-o", f"Dir::State::status={self.folder}/status"),
            *("-o", f"Dir::Cache={self.folder}/cache", "-o", "Dir::Etc::preferencesparts=/dev/null"),
            *("-o", "APT::Install-Recommends=false", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1", "-q"),
        ]

    def _apt(self, program: str, *words: str, deadline: Deadline, cwd: Path | None = None) -> str:
        argv = [program, *self._options(), *words]
        return run(argv, deadline, cwd=cwd, env={"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}, hint=_HINT).stdout

    def _update(self, deadline: Deadline) -> None:
        for folder in ("lists/partial", "cache/archives/partial", "debs"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()  # an empty machine: the closure goes down to libc and is complete
        if self.release:
            self._name_sources(deadline)
        stamp = self.folder / "updated"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > FRESH:
            self._apt("apt-get", "update", deadline=deadline)
            stamp.touch()

    def _name_sources(self, deadline: Deadline) -> None:
        """The machine's mirrors of Debian itself, which have all of its releases: an index tells whose it is."""
        own = Apt(self.folder / "own")
        own._update(deadline)
        words = ("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian")
        mirrors = sorted(set(own._apt("apt-get", *words, deadline=deadline).split()))
        if not mirrors:
            raise Problem(
                f"Debian's release {self.release} is not to be had",
                cause="this machine's apt has no mirror of Debian itself",
                hint="look at /etc/apt/sources.list, then: apt-get update",
            )
        text = "".join(f"deb [signed-by={_KEYRING}] {mirror} {self.release} main\n" for mirror in mirrors)
        (self.folder / "sources.list").write_text(text)

    def _closure(self, packages: Sequence[str], deadline: Deadline) -> list[tuple[str, str]]:
        try:
            said = self._apt("apt-get", "install", "-s", "--no-install-recommends", *packages, deadline=deadline)
        except CommandFailed as error:
            unknown = re.findall(r"Unable to locate package (\S+)", error.done.stderr)
            if unknown:
                raise Problem(
                    f"the distribution has no package {', '.join(unknown)}",
                    cause="a role asks for it by that name",
                    hint="write { debian = ...; nixpkgs = ...; } where the names differ",
                ) from error
            raise
        return installed(said)

    def _resolve(self, plan: Mapping[str, Any], deadline: Deadline) -> Lock:
        self._update(deadline)
        packages: dict[str, dict[str, Any]] = {}
        roles: dict[str, Any] = {}
        closures: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for name, role in plan["roles"].items():
            named = set(role["packages"])
            asked = tuple(sorted(named))
            if asked not in closures:
                closures[asked] = self._closure(asked, deadline)
            kept = reduced(closures[asked], named, {*plan["scriptsOnly"], *role["without"]}, plan["webOnly"])
            # The kernel alone: its dependencies are initramfs tools, no use to a system without maintainer scripts
            images = [pair for pair in self._closure([role["kernel"]], deadline) if _is_kernel(pair[0])]
            if not images:
                raise Problem(f"the package {role['kernel']} brings no kernel", cause=f"role {name} wants to boot it")
            roles[name] = {"kernel": images[0][0], "packages": [package for package, _ in kept]}
            for package, version in [*kept, images[0]]:
                packages[package] = {"version": version}
        exact = [f"{package}={info['version']}" for package, info in packages.items()]
        described = describe(self._apt("apt-cache", "show", *exact, deadline=deadline))
        for package, info in packages.items():
            info.update(described[package, info["version"]])
        return {"packages": packages, "roles": roles}

    def _download(self, packages: Mapping[str, Mapping[str, Any]], deadline: Deadline) -> None:
        missing = [n for n, info in packages.items() if not _is_there(self.debs / info["file"], info["size"])]
        if not missing:
            return
        self._update(deadline)
        aside = self.folder / "partial"
        aside.mkdir(exist_ok=True)
        exact = [f"{n}={packages[n]['version']}" for n in missing]
        self._apt("apt-get", "download", *exact, deadline=deadline, cwd=aside)
        # apt writes an epoch into the file's name as %3a; the name that counts is the archive's
        fetched = {(f.name.split("_")[0], f.name.rsplit("_", 1)[-1]): f for f in aside.glob("*.deb")}
        for name in missing:
            file = packages[name]["file"]
            fetched[(name, file.rsplit("_", 1)[-1])].replace(self.debs / file)


def installed(simulation: str) -> list[tuple[str, str]]:
    """Name and version of what `apt-get install -s` would install."""
    return sorted(set(re.findall(r"^Inst (\S+) \((\S+) ", simulation, re.MULTILINE)))


def reduced(
    packages: Iterable[tuple[str, str]], named: set[str], dropped: set[str], prefixes: Iterable[str]
) -> list[tuple[str, str]]:
    """A closure less what is dropped by name or by prefix, unless it was asked for by name."""
    begin = tuple(prefixes)
    return [
        (name, version)
        for name, version in packages
        if name != "usr-is-merged" and (name in named or not (name in dropped or name.startswith(begin)))
    ]


def describe(shown: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What `apt-cache show` says of packages, by name and version: sha256, size in bytes, file name."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for stanza in shown.strip().split("\n\n"):
        field = dict(re.findall(r"^(\S+): (.*)$", stanza, re.MULTILINE))
        if "SHA256" in field:
            file = field["Filename"].rsplit("/", 1)[-1]
            found[field["Package"], field["Version"]] = {
                "sha256": field["SHA256"],
                "size": int(field["Size"]),
                "file": file,
            }
    return found


def _is_kernel(package: str) -> bool:
    return re.match(r"linux-image-.*\d", package) is not None


def _is_there(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size
