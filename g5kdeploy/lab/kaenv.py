"""Environments that kadeploy knows by name: who sees which, and which one a name means."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from g5kdeploy.base import files

FIELDS = (
    "name", "version", "arch", "alias", "description", "author", "visibility", "destructive", "os", "image",
    "postinstalls", "boot", "filesystem", "partition_type", "multipart", "user",
)  # fmt: skip


def environment(
    name: str, image: str, *, description: str = "", version: int = 2026110100, **more: Any
) -> dict[str, Any]:
    """The description of a public Linux environment from a TAR archive, as kaenv prints it; `image` is its URL."""
    given: dict[str, Any] = {
        "name": name,
        "version": version,
        "arch": "x86_64",
        "alias": name,
        "description": description or name,
        "author": "support-staff@lists.grid5000.fr",
        "visibility": "public",
        "destructive": False,
        "os": "linux",
        "image": {"file": image, "kind": "tar", "compression": "zstd"},
        "postinstalls": [],
        "boot": {"kernel": "/vmlinuz", "initrd": "/initrd.img", "kernel_params": "console=ttyS0"},
        "filesystem": "ext4",
        "partition_type": 131,
        "multipart": False,
        "user": "deploy",
    }
    return {key: value for key, value in {**given, **more}.items() if key in FIELDS}


def uid(described: Mapping[str, Any]) -> str:
    """The id in the API: name, architecture, version and owner."""
    return "_".join(str(described[key]) for key in ("name", "arch", "version", "user"))


class Environments:
    """The registered environments of a site: those that it has, and those that users add, which are kept in `store`.

    Safe for many threads.
    """

    def __init__(self, environments: Iterable[Mapping[str, Any]] = (), store: Path | None = None) -> None:
        self._own = [dict(one) for one in environments]
        self._store = store
        added = files.read_json(store) if store is not None and store.exists() else []
        self._kept = [*self._own, *added]
        self._lock = threading.Lock()

    def add(self, described: Mapping[str, Any]) -> None:
        """Register an environment, as `kaenv3 -a` does; a second one of the same id takes the first one's place."""
        with self._lock:
            self._kept = [one for one in self._kept if uid(one) != uid(described)] + [dict(described)]
            self._save()

    def delete(self, described: Mapping[str, Any]) -> None:
        """Forget an environment, as `kaenv3 -d` does."""
        with self._lock:
            self._kept = [one for one in self._kept if uid(one) != uid(described)]
            self._save()

    def _save(self) -> None:
        if self._store is not None:
            files.write_json(self._store, [one for one in self._kept if one not in self._own])

    def seen(self, owner: str | None = None, asking: str | None = None, latest: bool = True) -> list[dict[str, Any]]:
        """Public environments, or those of `owner` that `asking` may see; with `latest` the newest of each name."""
        with self._lock:
            kept = list(self._kept)
        if owner is None:
            seen = [one for one in kept if one["visibility"] == "public"]
        else:
            seen = [one for one in kept if one["user"] == owner and (one["visibility"] != "private" or owner == asking)]
        if latest:
            newest: dict[tuple[str, str, str], int] = {}
            for one in seen:
                key = (one["name"], one["arch"], one["user"])
                newest[key] = max(newest.get(key, 0), int(one["version"]))
            seen = [one for one in seen if int(one["version"]) == newest[one["name"], one["arch"], one["user"]]]
        return [dict(one) for one in seen]

    def find(
        self, name: str, owner: str | None, asking: str, version: str | None = None, arch: str | None = None
    ) -> dict[str, Any] | None:
        """What a name or an alias means to a user: his own environment first, then the public one; the newest."""
        with self._lock:
            kept = list(self._kept)
        for user in (owner,) if owner else (asking, None):
            fitting = [
                one
                for one in kept
                if name in (one["name"], one.get("alias"))
                and (one["user"] == user if user else one["visibility"] == "public")
                and (user in (None, asking) or one["visibility"] != "private")
                and (not version or str(one["version"]) == version)
                and (not arch or one["arch"] == arch)
            ]
            if fitting:
                return dict(max(fitting, key=lambda one: int(one["version"])))
        return None
