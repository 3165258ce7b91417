"""What else comes back from a node: its journal, its console, files asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node import Remote

LIMIT = 256 * 1024**2  # bytes a node may bring back, unless said otherwise


@dataclass(frozen=True)
class Files:
    """Files that came (relative to the folder), and paths of which nothing came, with the reason."""

    came: tuple[str, ...]
    missing: dict[str, str]
    bytes: int


def fetch_files(remote: Remote, paths: Sequence[str], to: Path, deadline: Deadline, limit: int = LIMIT) -> Files:
    """Bring files and folders (shell patterns allowed) into `to`, under their own paths without the leading slash."""
    raise ConnectionError


def fetch_journal(remote: Remote, to: Path, deadline: Deadline, form: str = "export", limit: int = LIMIT) -> int:
    """This boot's journal, gzip'ed (`to` ends in .gz), in journalctl's `export` or `json` form; bytes written."""
    raise ConnectionError


def fetch_console(remote: Remote, to: Path, deadline: Deadline, limit: int = LIMIT) -> int:
    """The kernel's and early user space's messages of this boot, as the node itself kept them; bytes written."""
    raise ConnectionError
