"""Unpacking what a node packed: nothing may land outside of the tree, be owned by a stranger, or be a device.

As `tarfile`'s filter "data" does it, which Python has only since 3.11.4.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path


def unpack(archive: Path, tree: Path, refused: dict[str, str]) -> list[str]:
    """Unpack folders, files and harmless links, and name all but the folders; what is refused goes into `refused`."""
    came: dict[str, None] = {}  # a file may be asked for twice
    base = tree.resolve()
    with tarfile.open(archive) as tar:
        tar.extraction_filter = lambda member, path: member  # checked here; later Pythons ask for a word on it
        for member in tar:
            member.name = member.name.lstrip("/")
            why = _refusal(member, base)
            if not why:
                try:
                    tar.extract(_plain(member), tree)
                except (tarfile.TarError, OSError, KeyError) as error:  # KeyError: a hard link to nothing
                    why = str(error)
            if why:
                refused[f"/{member.name.removeprefix('./')}"] = why
            elif not member.isdir():
                came[member.name] = None
    return list(came)


def _refusal(member: tarfile.TarInfo, base: Path) -> str:
    """Why a member does not come; "" when it does."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return "neither file, folder nor link"
    if not _inside(base, base / member.name):
        return "it would lie outside of the folder"
    if member.issym() or member.islnk():
        if member.linkname.startswith("/"):
            return f"a link to {member.linkname}"
        beside = (base / member.name).parent if member.issym() else base
        if not _inside(base, beside / member.linkname):
            return f"a link to {member.linkname}, outside of the folder"
    return ""


def _inside(base: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(base)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The member as a file of ours: who runs this owns it, and nobody else may write to it."""
    member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
    member.mode = 0o755 if member.isdir() else member.mode & 0o755 | 0o600
    return member
