"""Reads a reference repository: a folder, or a TAR archive of one, with data/grid5000/sites/... inside."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.reference.tree import Blob, Reference, Tree, commit, put

ROOT = "data/grid5000/"


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
