"""NixOS-shaped systems out of the distribution's packages, built by Nix without nixpkgs (`nix/debian`)."""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g5kdeploy.base import files, folders, roles_file
from g5kdeploy.base.apt import Apt
from g5kdeploy.base.data import data
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.process import CommandFailed, Done, run

NIX_CONFIG = """\
experimental-features = nix-command flakes
sandbox = false
substituters =
build-users-group =
filter-syscalls = false
warn-dirty = false
"""
"""Nix as an ordinary program: no sandbox (the building machine's tools serve), no cache that might be unreachable."""


class BadRoles(Problem):
    """A roles file cannot be read, or has not got what was asked for."""


@dataclass(frozen=True)
class System:
    """A built toplevel and what must be known to boot it."""

    name: str
    toplevel: str
    kernel: str
    initrd: str
    params: str
    release: str
    programs: tuple[str, ...] = ()

    @property
    def init(self) -> str:
        return f"{self.toplevel}/init"


@dataclass(frozen=True)
class Environment:
    """A base environment that a machine boots: kernel, initrd, and a squashfs with its store.

    `append` lacks only where the store is: `store=PARTLABEL=...` or `store=/dev/...`.
    """

    name: str
    kernel: Path
    initrd: Path
    image: Path
    append: str
    release: str


def nix(words: Sequence[str | Path], deadline: Deadline, *, hint: str = "", check: bool = True) -> Done:
    """Run one of Nix's programs with our configuration."""
    hint = hint or "is Nix installed? on Debian: apt-get install nix-bin"
    return run(words, deadline, env={"NIX_CONFIG": NIX_CONFIG}, hint=hint, check=check)


def plan(roles: Path, deadline: Deadline, names: Sequence[str] = ()) -> dict[str, Any]:
    """What the systems of a roles file need, without building: per role its packages, kernel, programs, count.

    Raises `BadRoles` when it cannot be evaluated, says what means nothing, or lacks one of the roles named.
    """
    expression = str(data("nix") / "debian" / "plan.nix")
    words = ["nix-instantiate", "--eval", "--strict", "--json", expression, "--argstr", "roles", str(roles.absolute())]
    try:
        answer: dict[str, Any] = json.loads(nix(words, deadline).stdout)
    except CommandFailed as error:
        if error.done.returncode == 127:
            raise
        raise BadRoles(f"{roles} cannot be evaluated", cause=complaint(error)) from error
    known = answer["roles"]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadRoles(f"{roles} has no role {', '.join(unknown)}", cause=f"it has: {', '.join(known) or 'none'}")
    if wrong := roles_file.mistakes(known, data("bpf")):
        raise BadRoles(
            f"{roles} says what means nothing", cause="\n".join(wrong), hint="docs/closures.md has every key"
        )
    for role in known.values():  # checked, and no part of what is asked of apt
        del role["keys"], role["services"]
    return answer


def complaint(error: CommandFailed) -> str:
    """Nix's own words of what it could not evaluate, without its advice about traces and the word that we say ourselves."""
    lines = [line for line in error.cause.splitlines() if line.strip() and "--show-trace" not in line]
    return textwrap.dedent("\n".join(lines)).removeprefix("error: ")


def digest(paths: Iterable[Path]) -> str:
    """A hash over files and folders: their names and contents, in order; caches and results left out."""
    total = hashlib.sha256()
    for top in paths:
        found = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file())
        for path in found:
            if {"__pycache__", "runs"} & set(path.relative_to(top).parts):
                continue
            total.update(f"{top.name}/{path.relative_to(top)}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def hashed(value: Any) -> str:
    """The hash of a value that JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def programs() -> Path:
    """The folder of compiled BPF programs with their YAML; in a checkout, compiled now what changed since."""
    sources = data("bpf")
    folder = sources / "build"
    if sources.parent.name != "_data" or not any(folder.glob("*.bpf.o")):
        # One after the other, whatever home each has: the objects are the checkout's
        run(
            ["flock", str(sources), "make", "-C", str(sources)],
            Deadline.after(300, "the compiler of the BPF programs"),
            hint="scripts/setup",
        )
    return folder


def systems(
    roles: Path, deadline: Deadline, names: Sequence[str] | None = None, attribute: str = "toplevels"
) -> tuple[dict[str, System], Path]:
    """Build the systems of a roles file (all of them, or those named); also the lock that they were built from."""
    known = plan(roles, deadline, names or ())
    wanted = list(names) if names is not None else list(known["roles"])
    apt = Apt(folders.cache() / "debian")
    lock = apt.lock(known, deadline)
    ours: dict[str, str | Path] = {"bpf": programs(), "exporter": Path(__file__).resolve().parents[1] / "exporter"}
    out = _build(roles, lock, apt.debs, wanted, attribute, deadline, ours)
    return {name: _system(name, out[name], known["roles"][name]) for name in wanted}, lock


def _build(
    roles: Path,
    lock: Path,
    debs: Path,
    names: Sequence[str],
    attribute: str,
    deadline: Deadline,
    ours: Mapping[str, str | Path] | None = None,
) -> dict[str, str]:
    """Store paths of `attribute`'s members. `ours`: where the project's own parts are, for systems with an exporter."""
    expression = data("nix") / "debian" / "debian.nix"
    links = folders.cache() / "roots"
    links.mkdir(parents=True, exist_ok=True)
    link = links / f"{hashlib.sha256(f'{roles.absolute()}-{attribute}'.encode()).hexdigest()[:16]}"
    given = {"roles": roles.absolute(), "lock": lock, "debs": debs, **(ours or {})}
    words: list[str | Path] = ["nix-build", expression, "--out-link", link, "--cores", "0"]
    words += ["--max-jobs", str(os.cpu_count() or 1)]
    for name, value in given.items():
        words += ["--argstr", name, str(value)]
    for name in names:
        words += ["-A", f"{attribute}.{name}"]
    said = nix(words, deadline, hint="nix log PATH shows the whole log of what failed").stdout.split()
    if len(said) != len(names):
        raise Problem("nix-build did not say what it built", cause=" ".join(said) or "it said nothing")
    return dict(zip(names, said, strict=True))


def _system(name: str, out: str, role: dict[str, Any]) -> System:
    top = Path(os.path.realpath(f"{out}/toplevel") if os.path.islink(f"{out}/toplevel") else out)  # noqa: PTH114
    params = (top / "kernel-params").read_text().strip()
    release = (top / "kernel-release").read_text().strip()
    kernel, initrd = (os.path.realpath(top / part) for part in ("kernel", "initrd"))
    return System(name, str(top), kernel, initrd, params, release, tuple(role.get("programs", ())))


def environment(name: str, deadline: Deadline) -> Environment:
    """One of the lab's base environments (`standard`, `debian12-min`, `debian12-std`), built when it is not there."""
    roles = data("nix") / "debian" / "environments.nix"
    record = folders.cache() / "environments" / f"{name}.json"
    key = digest([data("nix") / "debian"])
    if record.exists():
        kept = files.read_json(record)
        if kept["key"] == key and Path(kept["image"]).exists() and Path(kept["kernel"]).exists():
            return _environment(name, kept)
    known = plan(roles, deadline)
    if name not in known["roles"]:
        raise BadRoles(f"the lab has no environment {name}", cause=f"it has: {', '.join(sorted(known['roles']))}")
    apt = Apt(folders.cache() / "debian")
    lock = apt.lock(known, deadline)
    out = _build(roles, lock, apt.debs, [name], "images", deadline)[name]
    system = _system(name, out, known["roles"][name])
    kept = {
        "key": key,
        "image": f"{out}/store.squashfs",
        "kernel": system.kernel,
        "initrd": system.initrd,
        "append": f"{system.params} init={system.init}",
        "release": system.release,
    }
    files.write_json(record, kept)
    return _environment(name, kept)


def _environment(name: str, kept: dict[str, str]) -> Environment:
    return Environment(
        name, Path(kept["kernel"]), Path(kept["initrd"]), Path(kept["image"]), kept["append"], kept["release"]
    )


def bundle(deadline: Deadline) -> Path:
    """The archive with Nix and kexec that is brought onto a node, built when it is not there yet."""
    roles = data("nix") / "debian" / "bundle.nix"
    kept = folders.cache() / "bundle" / f"{digest([data('nix') / 'debian'])[:32]}.path"
    if kept.exists() and Path(kept.read_text()).exists():
        return Path(kept.read_text())
    apt = Apt(folders.cache() / "debian")
    lock = apt.lock(plan(roles, deadline), deadline)
    archive = Path(_build(roles, lock, apt.debs, ["bundle"], "bundles", deadline)["bundle"]) / "bundle.tar.gz"
    files.write(kept, str(archive))
    return archive
