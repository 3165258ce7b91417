"""From a composition to a closure manifest; nothing is done when nothing changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from g5kdeploy.base import debian, files, folders
from g5kdeploy.base.data import data
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.process import CommandFailed
from g5kdeploy.base.text import human_bytes
from g5kdeploy.closure.additions import additions, refuse
from g5kdeploy.closure.manifest import Manifest, PathInfo, RoleClosure
from g5kdeploy.events.event import Emitter, State
from g5kdeploy.events.failure import Failure, InvalidUse

SYSTEM = "x86_64-linux"


class BuildFailed(Failure):
    """Nix could not build a role's system."""


def build(
    composition: Path,
    roles: Sequence[str] | None,
    deadline: Deadline,
    emit: Emitter,
    flavour: str = "local-store",
    *,
    ignore_additions: bool = False,
) -> Manifest:
    """The manifest of a composition's roles (all of them, or those named), built unless it is there already.

    What composition.nix adds to roles.nix cannot be built without nixpkgs: such a role is refused, or built without
    it (`ignore_additions`) and the manifest's `built` says so. Raises `InvalidUse` for that, for a composition without
    `roles.nix` or without a role that is asked for; `BuildFailed`.
    """
    description = _description(composition)
    added = additions(composition, deadline)
    if not ignore_additions:
        refuse(added, roles)
    for name, options in added.items():
        emit.warn("build", f"built without what composition.nix adds to {name}: {', '.join(options)}")
    key = inputs(composition, flavour, roles)
    kept = folders.cache() / "closures" / f"{key[:32]}.json"
    if kept.exists():
        manifest = Manifest.load(kept)
        if all(Path(path).exists() for path in manifest.paths):
            for name, role in manifest.roles.items():
                emit.emit("", f"build {name}", State.SKIPPED, f"unchanged: {Path(role.toplevel).name}", 0.0)
            return manifest
    with emit.step(f"build {', '.join(roles) if roles else 'all roles'}") as step:
        systems, lock = _systems(description, roles, deadline)
        manifest = _manifest(systems, lock, flavour, key, added, deadline)
        sizes = (f"{name} {human_bytes(manifest.size(name))}" for name in manifest.roles)
        step.text = f"{len(manifest.paths)} paths: {', '.join(sizes)}"
    manifest.save(kept)
    return manifest


def programs(composition: Path, roles: Sequence[str], deadline: Deadline) -> set[str]:
    """The BPF programs that a composition's roles serve, without building. Raises `InvalidUse` as `build` does."""
    try:
        known = debian.plan(_description(composition), deadline, roles)["roles"]
    except debian.BadRoles as error:
        raise InvalidUse(error.what, cause=error.cause, hint=error.hint) from error
    return {program for role in roles for program in known[role]["programs"]}


def _description(composition: Path) -> Path:
    file = composition / "roles.nix"
    if not file.is_file():
        raise InvalidUse(f"{composition} is no composition", cause="it has no roles.nix", hint="g5kdeploy init FOLDER")
    return file


def _systems(
    description: Path, roles: Sequence[str] | None, deadline: Deadline
) -> tuple[dict[str, debian.System], Path]:
    try:
        return debian.systems(description, deadline, roles)
    except debian.BadRoles as error:
        raise InvalidUse(error.what, cause=error.cause, hint=error.hint) from error
    except CommandFailed as error:
        if error.done.argv[0] != "nix-build" or error.done.returncode == 127:
            raise
        raise BuildFailed(f"{description} could not be built", cause=error.cause, hint=error.hint) from error


def inputs(composition: Path, flavour: str, roles: Sequence[str] | None = None) -> str:
    """The hash of everything that a build is made from, the code that builds included."""
    ours = Path(debian.__file__).resolve().parents[1]
    code = [ours / "exporter", ours / "closure", Path(debian.__file__).resolve()]
    sources = debian.digest([composition, data("nix") / "debian", debian.programs(), *code])
    return debian.hashed([sources, flavour, sorted(roles) if roles else None])


def _manifest(
    systems: dict[str, debian.System],
    lock: Path,
    flavour: str,
    key: str,
    added: dict[str, list[str]],
    deadline: Deadline,
) -> Manifest:
    words = ["nix", "path-info", "--json", "--recursive", *(system.toplevel for system in systems.values())]
    answer: list[dict[str, Any]] = json.loads(debian.nix(words, deadline).stdout)
    paths = {
        info["path"]: PathInfo(
            info["narHash"], info["narSize"], tuple(r for r in info["references"] if r != info["path"])
        )
        for info in answer
    }
    roles = {
        name: RoleClosure(
            system.toplevel, system.kernel, system.initrd, system.init, system.params, system.release, system.programs
        )
        for name, system in systems.items()
    }
    locked = files.read_json(lock)
    version = debian.nix(["nix", "--version"], deadline).stdout.strip()
    built = {"by": "nix/debian", "nix": version, "inputs": key, "lock": locked["packages"]}
    if added:
        built["without"] = added
    return Manifest(SYSTEM, flavour, roles, paths, built)
