"""The reference repository as a tree of documents with commits: what g5k-api finds at a path, flat and deep."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tree = dict[str, Any]
"""A folder: names of folders to trees, names of files ("x.json") to documents wrapped in `Blob`."""

FLAT = ("nodes", "network_equipments", "servers", "pdus")
"""Folders that a deep answer shows as arrays; all others are dictionaries by uid."""


@dataclass(frozen=True)
class Blob:
    """A file: one JSON document."""

    document: Any


class NoSuchBranch(Exception):
    """The branch is not there."""

    def __init__(self, branch: str) -> None:
        super().__init__(f"Branch '{branch}' cannot be found.")


class NoSuchCommit(Exception):
    """The version is not there."""

    def __init__(self, version: str) -> None:
        super().__init__(f"Commit '{version}' cannot be found.")


class NoSuchReference(Exception):
    """Neither a branch nor a version."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Reference (branch or commit) '{name}' cannot be found.")


class BeforeHistory(Exception):
    """A moment before the first commit; the real server runs out of stack there."""

    def __init__(self) -> None:
        super().__init__("stack level too deep")


@dataclass(frozen=True, eq=False)
class Commit:
    """One version: its id (40 hexadecimal digits), unix time, message, author, and the whole tree."""

    oid: str
    time: int
    message: str
    author: str
    tree: Tree


def commit(tree: Tree, time: int, message: str, author: str = "reference-repository", oid: str = "") -> Commit:
    """A commit of this tree; without an id, one that is computed from the content."""
    return Commit(oid or digest(tree), time, message, author, tree)


def digest(tree: Tree) -> str:
    """The same 40 digits for the same documents."""
    sha = hashlib.sha1(usedforsecurity=False)
    for path, document in walk(tree):
        sha.update(path.encode() + b"\0" + json.dumps(document, sort_keys=True).encode() + b"\0")
    return sha.hexdigest()


def entries(tree: Tree) -> list[tuple[str, Any]]:
    """The entries of a folder in git's order: folders sort as if their names ended with a slash."""
    return sorted(tree.items(), key=lambda item: item[0] if isinstance(item[1], Blob) else item[0] + "/")


def walk(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every document with its path (without .json), files of a folder before what its folders hold."""
    for name, entry in entries(tree):
        if isinstance(entry, Blob):
            yield prefix + name.removesuffix(".json"), entry.document
    for name, entry in entries(tree):
        if not isinstance(entry, Blob):
            yield from walk(entry, f"{prefix}{name}/")


def put(tree: Tree, path: str, document: Any) -> None:
    """Put a document at a path (without .json), making the folders on the way."""
    *folders, name = path.split("/")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[name + ".json"] = Blob(document)


def find(tree: Tree, path: str, suffix: str = ".json") -> Tree | Blob | None:
    """What is at a path: a folder, a file, or nothing."""
    here: Any = tree
    parts = [part for part in path.split("/") if part]
    for number, part in enumerate(parts):
        if not isinstance(here, dict):
            return None
        last = number == len(parts) - 1
        here = here.get(part, here.get(part + suffix) if last and suffix else None)
        if here is None:
            return None
    return here  # type: ignore[no-any-return]


class Reference:
    """Branches of commits (newest first), and the look-ups of the reference API. Safe for many threads.

    `checked_out` are the branches that the real server's clone has of its own: /accesses and /refrepo see no others.
    """

    def __init__(
        self,
        branches: Mapping[str, Sequence[Commit]],
        installed_at: float = 0,
        checked_out: Sequence[str] = ("master",),
    ) -> None:
        self.branches = branches
        self.checked_out = checked_out
        self.installed_at = int(installed_at)
        self.commits = {one.oid: one for line in branches.values() for one in line}
        self._touched: dict[tuple[str, str], Commit | None] = {}
        self._expanded: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.RLock()

    @property
    def latest(self) -> Commit:
        """The newest commit of the main branch."""
        return self.branches["master"][0]

    def commit_of(self, version: str) -> Commit:
        """The commit with this id, or the start of one, in letters of either case."""
        digits = version.lower()
        if found := self.commits.get(digits):
            return found
        near = [one for oid, one in self.commits.items() if oid.startswith(digits) and len(digits) >= 4]
        if len(near) != 1:
            raise NoSuchCommit(version)
        return near[0]

    def commit_at(self, moment: float, branch: str = "master") -> Commit:
        """The newest commit that is not newer than this moment (unix seconds)."""
        for one in self._line(branch):
            if one.time <= moment:
                return one
        raise BeforeHistory

    def last_touching(self, path: str, branch: str = "master") -> Commit | None:
        """The last commit that changed what is at this path; None when the path was never there."""
        key = (branch, path)
        with self._lock:
            if key not in self._touched:
                line = self._line(branch)
                self._touched[key] = next(
                    (one for one, parent in pairs(line) if changed(one, parent, path)),
                    None,
                )
            return self._touched[key]

    def versions(self, path: str, name: str = "master") -> list[Commit]:
        """The history of a path, newest first, from a branch or a version.

        A file's own name is looked up without its suffix in the newer of two commits and with it in the older one,
        as the real server does: a file seems changed in every commit but the one that brought it.
        """
        if name in self.branches:
            line = self.branches[name]
        else:
            try:
                start = self.commit_of(name)
            except NoSuchCommit as error:
                raise NoSuchReference(name) from error
            line = next(one[one.index(start) :] for one in self.branches.values() if start in one)
        return [one for one, parent in pairs(line) if seems_changed(one, parent, path)]

    def document(self, path: str, branch: str = "master") -> Any:
        """The document at a path of the newest commit, or None."""
        found = find(self._line(branch)[0].tree, path)
        return found.document if isinstance(found, Blob) else None

    def deep(self, one: Commit, path: str) -> dict[str, Any]:
        """The deep expansion of a folder, kept for the next time; its top level may be changed."""
        key = (one.oid, path)
        with self._lock:
            if key not in self._expanded:
                entry = find(one.tree, path)
                assert entry is not None
                self._expanded[key] = expand_deep(entry, path, one.oid)
            return dict(self._expanded[key])

    def documents(self, path: str, branch: str = "master") -> list[Any]:
        """The documents of a folder, each file or the file inside each folder of it ("clusters", "nodes")."""
        found = find(self._line(branch)[0].tree, path)
        if not isinstance(found, dict):
            return []
        return [
            entry.document if isinstance(entry, Blob) else entry[name + ".json"].document
            for name, entry in entries(found)
        ]

    def sites(self) -> list[str]:
        """The names of all sites."""
        return [site["uid"] for site in self.documents("sites")]

    def nodes(self, site: str) -> list[dict[str, Any]]:
        """The node documents of a site, cluster by cluster, in the order of their numbers."""
        found: list[dict[str, Any]] = []
        for cluster in self.documents(f"sites/{site}/clusters"):
            nodes = self.documents(f"sites/{site}/clusters/{cluster['uid']}/nodes")
            found += sorted(nodes, key=lambda node: int(node["uid"].rsplit("-", 1)[-1]))
        return found

    def _line(self, branch: str) -> Sequence[Commit]:
        if branch not in self.branches:
            raise NoSuchBranch(f"origin/{branch}")
        return self.branches[branch]


def is_name(branch: str) -> bool:
    """Whether git takes this as the name of a branch, be it there or not."""
    parts = branch.split("/")
    return not re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|\.$", branch) and all(
        part and not part.startswith(".") and not part.endswith(".lock") for part in parts
    )


def pairs(line: Sequence[Commit]) -> list[tuple[Commit, Commit | None]]:
    """Each commit with its parent."""
    return list(zip(line, [*line[1:], None], strict=True))


def changed(one: Commit, parent: Commit | None, path: str) -> bool:
    """Did this commit change what is at the path?"""
    return find(one.tree, path) != (find(parent.tree, path) if parent else None)


def seems_changed(one: Commit, parent: Commit | None, path: str) -> bool:
    """The same, as `Reference.versions` explains it."""
    here = find(one.tree, path, suffix="")
    if parent is None:
        return here is not None
    before = find(parent.tree, path)
    return here != before


def expand(entry: Tree | Blob, version: str) -> dict[str, Any]:
    """What a flat answer shows of a file, an item's folder or a collection's folder; new dictionaries at the top."""
    if isinstance(entry, Blob):
        return {**entry.document, "version": version}
    files = [(name, one) for name, one in entries(entry) if isinstance(one, Blob)]
    folders = [name for name, one in entries(entry) if not isinstance(one, Blob)]
    if files and folders:
        item: dict[str, Any] = {"subresources": folders}
        for _, one in files:
            item.update(expand(one, version))
        return item
    items = [expand(one, version) for _, one in entries(entry)]
    return {"total": len(items), "offset": 0, "items": items, "version": version}


def expand_deep(entry: Tree | Blob, path: str, version: str) -> dict[str, Any]:
    """What a deep answer shows: folders as dictionaries with sorted keys, those of `FLAT` as arrays."""
    if isinstance(entry, Blob):
        return expand(entry, version)
    own = path.rstrip("/").rsplit("/", 1)[-1]
    if all(isinstance(one, Blob) for one in entry.values()):
        data: Any = [in_order(one.document) for _, one in entries(entry)]
    else:
        data = in_order(_deep(entry, own or "grid5000"))
    return {"total": len(data), "offset": 0, "items": data, "version": version}


def _deep(tree: Tree, own: str) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, entry in entries(tree):
        if isinstance(entry, Blob):
            if isinstance(entry.document, dict):
                shown.update(entry.document)
        elif name in FLAT:
            shown[name] = [one.document for _, one in entries(entry) if isinstance(one, Blob)]
        else:
            shown[name] = _deep(entry, name)
    return shown


def in_order(value: Any) -> Any:
    """The same value with the keys of all its dictionaries sorted."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [in_order(one) for one in value]
    return value
