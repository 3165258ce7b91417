"""Asking apt for the packages of systems: the only step of a nixpkgs-free build that touches the network.

apt does what it is good at (closure, signatures of the archive) in a root of its own, so that the machine's package state
neither matters nor changes. The lock names no host: a .deb is known by its SHA-256, and any mirror that has it will do.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from g5kdeploy.base import files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.process import CommandFailed, run

FRESH = 24 * 3600.0  # seconds for which the archive's index is taken as it is
_HINT = "is the machine's apt able to reach its mirrors? try: apt-get update"


class Apt:
    """An apt of our own in `folder`: index, downloaded .debs, locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.debs = folder / "debs"

    def lock(self, plan: Mapping[str, Any], deadline: Deadline) -> Path:
        """The lock file for a plan, its .debs all there: `{packages: {name: {version, sha256, size, file}}, roles}`.

        `plan` is `{scriptsOnly: [...], roles: {name: {packages: [...], kernel, without: [...]}}}`. The same plan gives
        the same lock until the cache is deleted; nothing is asked of the network then.
        """
        asked = {
            "scriptsOnly": plan["scriptsOnly"],
            "roles": {
                name: {"packages": role["packages"], "kernel": role["kernel"], "without": role.get("without", [])}
                for name, role in plan["roles"].items()
            },
        }
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]
        path = self.folder / "locks" / f"{key}.json"
        with files.lock(self.folder / "lock", "the package cache", wait=deadline.remaining()):
            lock = files.read_json(path) if path.exists() else self._resolve(asked, deadline)
            self._download(lock["packages"], deadline)
            if not path.exists():
                files.write_json(path, lock)
        return path

    def _options(self) -> list[str]:
        return [
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
        stamp = self.folder / "updated"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > FRESH:
            self._apt("apt-get", "update", deadline=deadline)
            stamp.touch()

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
        return sorted(set(re.findall(r"^Inst (\S+) \((\S+) ", said, re.MULTILINE)))

    def _resolve(self, plan: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        self._update(deadline)
        packages: dict[str, dict[str, Any]] = {}
        roles: dict[str, Any] = {}
        closures: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for name, role in plan["roles"].items():
            named = set(role["packages"])
            asked = tuple(sorted(named))
            if asked not in closures:
                closures[asked] = self._closure(asked, deadline)
            dropped = set(plan["scriptsOnly"]) - named | {"usr-is-merged"} | set(role["without"])
            kept = [pair for pair in closures[asked] if pair[0] not in dropped]
            # The kernel alone: its dependencies are initramfs tools, no use to a system without maintainer scripts
            images = [pair for pair in self._closure([role["kernel"]], deadline) if _is_kernel(pair[0])]
            if not images:
                raise Problem(f"the package {role['kernel']} brings no kernel", cause=f"role {name} wants to boot it")
            roles[name] = {"kernel": images[0][0], "packages": [package for package, _ in kept]}
            for package, version in [*kept, images[0]]:
                packages[package] = {"version": version}
        exact = [f"{package}={info['version']}" for package, info in packages.items()]
        for stanza in self._apt("apt-cache", "show", *exact, deadline=deadline).strip().split("\n\n"):
            field = dict(re.findall(r"^(\S+): (.*)$", stanza, re.MULTILINE))
            info = packages.get(field.get("Package", ""))
            if info is not None and info["version"] == field["Version"]:
                file = field["Filename"].rsplit("/", 1)[-1]
                info.update(sha256=field["SHA256"], size=int(field["Size"]), file=file)
        return {"packages": packages, "roles": roles}

    def _download(self, packages: Mapping[str, Mapping[str, Any]], deadline: Deadline) -> None:
        missing = [n for n, info in packages.items() if not (self.debs / info["file"]).exists()]
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


def _is_kernel(package: str) -> bool:
    return re.match(r"linux-image-.*\d", package) is not None
