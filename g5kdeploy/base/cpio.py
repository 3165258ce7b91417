"""A cpio archive of a few files, as the kernel takes it behind an initrd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ALIGNMENT = 4  # the kernel sees a further archive only at such an offset


@dataclass(frozen=True)
class Entry:
    """A regular file; or, with `link`, a symbolic link to what `content` names."""

    content: bytes
    mode: int = 0o644
    link: bool = False


def archive(entries: Mapping[str, Entry], folder_mode: int = 0o755) -> bytes:
    """A `newc` archive of the entries by path (relative, with slashes) and all folders above them; owned by root."""
    folders = sorted({path.rsplit("/", up)[0] for path in entries for up in range(1, path.count("/") + 1)})
    parts = [_member(path, b"", 0o040000 | folder_mode) for path in folders]
    for path, entry in sorted(entries.items()):
        kind = 0o120000 | 0o777 if entry.link else 0o100000 | entry.mode
        parts.append(_member(path, entry.content, kind))
    parts.append(_member("TRAILER!!!", b"", 0))
    return b"".join(parts)


def _member(name: str, content: bytes, mode: int) -> bytes:
    """One member: header of 110 characters, name and content each filled up to four bytes. inode 0: no hard links."""
    fields = (0, mode, 0, 0, 1, 1, len(content), 0, 0, 0, 0, len(name.encode()) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return _filled(header) + _filled(content)


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
