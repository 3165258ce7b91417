"""Reads a reference repository: a folder, or a TAR archive of one, with data/grid5000/sites/... inside."""

from __future__ import annotations

import json
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.reference.tree import Blob, Reference, Tree, commit, put

ROOT = "data/grid5000/"


def load_any(source: str, deadline: Deadline) -> Reference:
    """The reference data behind a path or an http(s) URL; raises `Problem`, and `DeadlinePassed` for a slow one."""
    if not source.startswith(("http://", "https://")):
        return load(Path(source))
    with tempfile.TemporaryDirectory(prefix="g5kdeploy-reference-") as folder:
        name = source.rstrip("/").rsplit("/", 1)[-1] or "reference"
        file = Path(folder) / name
        _download(source, file, deadline)
        return load(file)


def _download(url: str, to: Path, deadline: Deadline) -> None:
    import requests

    try:
        with requests.get(url, stream=True, timeout=min(60.0, deadline.remaining())) as answer, to.open("wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_content(2**16):
                deadline.check(f"{file.tell()} bytes of {url} had come")
                file.write(piece)
    except requests.exceptions.RequestException as error:
        raise Problem(f"{url} cannot be read as reference data", cause=str(error)) from error


def beside(own: Reference, other: Reference) -> Reference:
    """Both references as one: the sites of `other`, and those of `own`, which count where both have the same."""
    theirs, ours = other.latest.tree, own.latest.tree
    tree = {**theirs, **ours}
    for name in ("sites", "network_equipments"):
        tree[name] = {**theirs.get(name, {}), **ours.get(name, {})}
    nodesets: dict[str, Any] = {}
    for one in (theirs, ours):
        found = one.get("accesses", {}).get("nodesets.json")
        nodesets |= found.document if found else {}
    tree["accesses"] = {**theirs.get("accesses", {}), "nodesets.json": Blob(nodesets)}
    message = f"{other.latest.message}, {own.latest.message}"
    moment = max(own.latest.time, other.latest.time)
    return Reference({"master": [commit(tree, moment, message)]}, moment)


def load(source: Path, now: float | None = None) -> Reference:
    """The reference data in a folder or TAR archive (any compression); one commit, dated `now` (unix seconds).

    Raises `Problem` when the archive cannot be read or holds no sites.
    """
    tree: Tree = {}
    try:
        for path, document in _folder(source) if source.is_dir() else _archive(source):
            put(tree, path, document)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise Problem(f"{source} cannot be read as reference data", cause=str(error)) from error
    if "sites" not in tree:
        raise Problem(f"{source} holds no reference data", cause=f"nothing under {ROOT}sites/")
    tree.setdefault("grid5000.json", Blob({"type": "grid", "uid": "grid5000"}))
    moment = int(time.time() if now is None else now)
    return Reference({"master": [commit(tree, moment, f"import of {source.name}")]}, moment)


def _inside(name: str) -> str | None:
    """The path below data/grid5000 of a JSON file, without its suffix; None for anything else."""
    at = f"/{name}".find(f"/{ROOT}")
    return name[at + len(ROOT) :].removesuffix(".json") if at >= 0 and name.endswith(".json") else None


def _archive(source: Path) -> Iterator[tuple[str, Any]]:
    with tarfile.open(source) as archive:
        for member in archive:
            path = _inside(member.name)
            file = archive.extractfile(member) if path is not None and member.isfile() else None
            if path is not None and file is not None:
                yield path, json.load(file)


def _folder(source: Path) -> Iterator[tuple[str, Any]]:
    for file in sorted(source.rglob("*.json")):
        path = _inside(str(file.relative_to(source)))
        if path is not None:
            yield path, json.loads(file.read_text())
