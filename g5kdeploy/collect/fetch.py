"""What else comes back from a node: its journal, its kernel's messages, files asked for."""

from __future__ import annotations

import gzip
import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import human_bytes
from g5kdeploy.node import Remote
from g5kdeploy.node.copying import pattern
from g5kdeploy.node.unpacking import unpack

LIMIT = 256 * 1024**2  # bytes a node may bring back, unless said otherwise


@dataclass(frozen=True)
class Files:
    """Files that came (relative to the folder), and paths of which nothing came, with the reason."""

    came: tuple[str, ...]
    missing: dict[str, str]
    bytes: int


# The list goes to tar's stdin, so that neither its length nor its spaces matter. tar's status 1 means that a file
# changed while it was read: a log that is still written to does so.
_PACK = """\
cd /
for p in {patterns}; do if [ -e "$p" ] || [ -L "$p" ]; then printf '%s\\0' "${{p#/}}"; fi; done |
  tar -c --null --verbatim-files-from --files-from=- --ignore-failed-read --format=pax --warning=no-all -f -
s=$?; [ $s -le 1 ] || exit $s
"""
_LOOK = """\
cd /
for p in {patterns}; do
  if [ ! -e "$p" ]; then echo "{number} nothing there"; elif [ ! -r "$p" ]; then echo "{number} not readable"; fi
  break
done
echo "{number} =$(du -sbc -- {patterns} 2>/dev/null | tail -n 1 | cut -f 1)"
"""


def fetch_files(remote: Remote, paths: Sequence[str], to: Path, deadline: Deadline, limit: int = LIMIT) -> Files:
    """Bring files and folders (shell patterns allowed) into `to`, under their own paths without the leading slash.

    Links that lead out of `to` and device files do not come. What came before stays: where a file is now a folder, or
    the other way round, it is called `NAME.earlier`. A path that goes beyond `limit` bytes together with those before it
    does not come; raises `Overflow` when it was not seen to before.
    """
    patterns = [_pattern(path) for path in paths]
    if not patterns:
        return Files((), {}, 0)
    looks = "".join(_LOOK.format(patterns=quoted, number=number) for number, quoted in enumerate(patterns))
    missing: dict[str, str] = {}
    fitting, room = [], limit
    for line in remote.run(looks, deadline).stdout.splitlines():
        number, _, why = line.partition(" ")
        if not why.startswith("="):
            missing[paths[int(number)]] = why
        elif (size := int(why[1:] or 0)) <= room:
            fitting.append(patterns[int(number)])
            room -= size
        else:
            missing[paths[int(number)]] = f"{human_bytes(size)}, more than the {human_bytes(room)} that may still come"
    to.mkdir(parents=True, exist_ok=True)
    if not fitting:
        return Files((), missing, 0)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=to) as aside:
        archive, tree = Path(aside, "files.tar"), Path(aside, "tree")
        size = remote.stream(_PACK.format(patterns=" ".join(fitting)), archive, deadline, limit)
        tree.mkdir()
        unpack(archive, tree, missing)
        came = _settle(tree, to)
    return Files(tuple(came), missing, size)


def _settle(tree: Path, to: Path) -> list[str]:
    """Move the files and links of a tree into a folder, and name them."""
    came = []
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree)
        if path.is_dir() and not path.is_symlink():
            _make_room(to / name, folder=True)
            (to / name).mkdir(exist_ok=True)
            continue
        _make_room(to / name, folder=False)
        path.replace(to / name)
        came.append(str(name))
    return came


def _make_room(place: Path, *, folder: bool) -> None:
    """Rename what came earlier and is of another kind than what comes now."""
    is_folder = place.is_dir() and not place.is_symlink()
    if not os.path.lexists(place) or (is_folder if folder else not is_folder):
        return
    number, earlier = 1, place.with_name(f"{place.name}.earlier")
    while os.path.lexists(earlier):
        number += 1
        earlier = place.with_name(f"{place.name}.earlier-{number}")
    place.rename(earlier)


def _pattern(path: str) -> str:
    """A path for the shell, from the root; its stars and brackets are patterns."""
    return pattern(path if path.startswith("/") else f"/{path}")


def fetch_journal(remote: Remote, to: Path, deadline: Deadline, form: str = "export", limit: int = LIMIT) -> int:
    """This boot's journal, gzip'ed (`to` ends in .gz), in journalctl's `export` or `json` form; bytes written."""
    return _packed(remote, f"journalctl --boot --no-pager --quiet --output={shlex.quote(form)}", to, deadline, limit)


def fetch_console(remote: Remote, to: Path, deadline: Deadline, limit: int = LIMIT) -> int:
    """The kernel's messages of this boot as the node itself kept them, gzip'ed when `to` ends in .gz; bytes written.

    The power-on console of a machine that does not answer is the testbed's to give, not the node's.
    """
    command = "journalctl --boot --dmesg --no-pager --quiet --output=short-monotonic 2>/dev/null || dmesg"
    return _packed(remote, command, to, deadline, limit)


def _packed(remote: Remote, command: str, to: Path, deadline: Deadline, limit: int) -> int:
    """A command's output in a file, packed here: a node under test has better things to do."""
    if to.suffix != ".gz":
        return remote.stream(command, to, deadline, limit)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=to.parent) as aside:
        plain, packed = Path(aside, "plain"), Path(aside, "packed")
        remote.stream(command, plain, deadline, limit)
        with plain.open("rb") as source, gzip.open(packed, "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        size = packed.stat().st_size
        packed.replace(to)
    return size
