"""The closure manifest: what was built, role by role, path by path. Everything after the build works from it alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from g5kdeploy.base.files import read_json, write_json
from g5kdeploy.events.failure import InvalidUse

VERSION = 1


@dataclass(frozen=True)
class RoleClosure:
    """One role's system: absolute store paths, and the kernel's command line without `init=` and `store=`."""

    toplevel: str
    kernel: str
    initrd: str
    init: str
    params: str
    release: str
    """What `uname -r` will say; empty when the build could not know."""
    programs: tuple[str, ...] = ()
    """BPF programs that the exporter of this role serves."""


@dataclass(frozen=True)
class PathInfo:
    """A store path's NAR hash (sha256-... or sha256:...), size in bytes, and the paths it refers to."""

    nar_hash: str
    nar_size: int
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """Every role's closure, for one system (x86_64-linux) and flavour, and how it was built."""

    system: str
    flavour: str
    roles: dict[str, RoleClosure]
    paths: dict[str, PathInfo]
    built: dict[str, Any] = field(default_factory=dict)

    def closure(self, role: str) -> list[str]:
        """The store paths that a role needs, its toplevel first. O(paths of the role)."""
        seen: dict[str, None] = {}
        todo = [self.roles[role].toplevel]
        while todo:
            path = todo.pop()
            if path not in seen:
                seen[path] = None
                todo.extend(self.paths[path].references)
        return list(seen)

    def size(self, role: str) -> int:
        """Bytes of a role's closure, unpacked."""
        return sum(self.paths[path].nar_size for path in self.closure(role))

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"apiVersion": f"g5kdeploy/v{VERSION}", "kind": "ClosureManifest", **asdict(self)}

    def save(self, path: Path) -> None:
        write_json(path, self.document())

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest; `InvalidUse` names the file and what is wrong with it."""
        return cls.of(read_json(path), path)

    @classmethod
    def of(cls, document: Any, path: Path) -> Manifest:
        """What a manifest's document says; `path`, where it came from, is for the message of `InvalidUse`."""
        try:
            if document["apiVersion"] != f"g5kdeploy/v{VERSION}":
                raise InvalidUse(f"{path} is a manifest of another version", cause=str(document["apiVersion"]))
            roles = {
                name: RoleClosure(**{**role, "programs": tuple(role.get("programs", ()))})
                for name, role in document["roles"].items()
            }
            paths = {
                name: PathInfo(info["nar_hash"], info["nar_size"], tuple(info["references"]))
                for name, info in document["paths"].items()
            }
            return cls(document["system"], document["flavour"], roles, paths, document.get("built", {}))
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidUse(f"{path} is no closure manifest", cause=f"{type(error).__name__}: {error}") from error
