"""Files and folders to a machine and back, as one archive over its connection: whole, or not at all.

What arrives is unpacked beside its place and renamed into it. A new folder appears in one piece; in a folder that is
there already, each file is replaced in one piece, and what else it holds stays.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import Failure, InvalidUse
from g5kdeploy.node.problems import RemoteFailed
from g5kdeploy.node.remote import Remote
from g5kdeploy.node.talk import Feed
from g5kdeploy.node.unpacking import unpack

BLOCK = 1 << 15  # bytes handed on at once
WHOLE = ".g5kdeploy-whole"  # the archive's last member: one that was cut has none
SHOWN = 5  # names of a long list that are told

# The archive comes on stdin. `t` is where it shall be, `n` the name of a single source, `into` says that `t` is a folder.
_UNPACK = """\
set -eu; umask 022
t={target}; n={name}; into={into}
place() (
  if [ -d "$1" ] && [ ! -L "$1" ] && [ -d "$2" ]; then
    for one in "$1"/* "$1"/.[!.]* "$1"/..?*; do
      if [ -e "$one" ] || [ -L "$one" ]; then place "$one" "$2/${{one##*/}}"; fi
    done
  elif [ -e "$2" ] && [ ! -f "$2" ] && [ ! -d "$2" ]; then
    echo "$2 is neither file nor folder: nothing takes its place" >&2; exit 1
  else mv -fT -- "$1" "$2"; fi
)
if [ -n "$into" ] || [ -d "$t" ]; then d=$t; as=; else d=$(dirname -- "$t"); as=$(basename -- "$t"); fi
mkdir -p -- "$d"
a=$(mktemp -d -- "$d/.g5kdeploy-XXXXXX")
trap 'rm -rf -- "$a"' EXIT
tar -x -p --no-same-owner -f - -C "$a"
if [ ! -e "$a/{whole}" ]; then echo 'not all of it arrived' >&2; exit 1; fi
rm -f -- "$a/{whole}"
if [ -n "$as" ]; then place "$a/$n" "$d/$as"; else place "$a" "$d"; fi
"""

# tar's status 1 means that a file changed while it was read: a log that is still written to does so.
_PACK = """\
set --
l='
'; paths=$l; names=$l
for f in {patterns}; do
  if [ ! -e "$f" ]; then echo "$f: nothing there" >&2; exit 2; fi
  if [ -L "$f" ]; then f=$(readlink -f -- "$f"); fi
  case $f in /*) ;; *) f=$PWD/$f ;; esac
  b=$(basename -- "$f")
  case $paths in *"$l$f$l"*) continue ;; esac
  case $names in *"$l$b$l"*) echo "$b is the name of two sources: copy them one after the other" >&2; exit 2 ;; esac
  paths=$paths$f$l; names=$names$b$l
  set -- "$@" -C "$(dirname -- "$f")" "./$b"
done
s=0; tar -c --format=pax --warning=no-file-changed -f - "$@" || s=$?
[ $s -le 1 ] || exit $s
"""


@dataclass(frozen=True)
class Copied:
    """What was copied to or from one machine: files and links, and the files' bytes."""

    files: int
    bytes: int


class Parcel:
    """Local files and folders, looked at once and sent to many. Raises `InvalidUse` for what cannot be read."""

    def __init__(self, sources: Sequence[Path]) -> None:
        self.names = [source.resolve().name if source.name in ("", "..") else source.name for source in sources]
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise InvalidUse(f"`{min(twice)}` is the name of two sources", hint="copy them one after the other")
        self._members: list[tuple[tarfile.TarInfo, Path]] = []
        with tarfile.open(fileobj=io.BytesIO(), mode="w", format=tarfile.PAX_FORMAT) as tar:
            for source, name in zip(sources, self.names, strict=True):
                self._look(tar, source.resolve(), name)
        plain = [info for info, _ in self._members if not info.isdir()]
        self.copied = Copied(len(plain), sum(info.size for info in plain))

    def _look(self, tar: tarfile.TarFile, path: Path, name: str) -> None:
        try:
            info = tar.gettarinfo(path, name)
            children = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() else []
        except OSError as error:
            raise InvalidUse(f"{path} cannot be read", cause=error.strerror or str(error)) from error
        if info is None or not (info.isfile() or info.isdir() or info.issym() or info.islnk()):
            raise InvalidUse(f"{path} cannot be copied", cause="it is no file, folder or link")
        if info.islnk():  # a second name of a file that was met already: sent as a file of its own
            info.type, info.size = tarfile.REGTYPE, path.stat().st_size
        if info.isfile() and not os.access(path, os.R_OK):
            raise InvalidUse(f"{path} cannot be read", cause="permission denied")
        self._members.append((info, path))
        for child in children:
            self._look(tar, child, f"{name}/{child.name}")

    def stream(self) -> Feed:
        """The archive, made as it is read."""
        return _Stream(self._blocks())

    def _blocks(self) -> Iterator[bytes]:
        for info, path in self._members:
            yield _header(info)
            if not info.isfile():
                continue
            with path.open("rb") as file:
                left = info.size
                while left:
                    block = file.read(min(BLOCK, left))
                    if not block:
                        return  # it became shorter: the archive ends without its last member
                    left -= len(block)
                    yield block
            yield bytes(-info.size % tarfile.BLOCKSIZE)
        yield _header(tarfile.TarInfo(WHOLE))
        yield bytes(2 * tarfile.BLOCKSIZE)


class _Stream:
    """Blocks as a file that can be read once; a read gives a block, whatever its size."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    def read(self, size: int = -1, /) -> bytes:
        return next((block for block in self._blocks if block), b"")


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def send(remote: Remote, parcel: Parcel, target: str, deadline: Deadline) -> Copied:
    """Copy a parcel to `target`: into it where it is a folder, ends in a slash, or where there are several sources."""
    into = "1" if len(parcel.names) > 1 or target.endswith("/") else ""
    command = _UNPACK.format(
        target=shlex.quote(_from_home(target)), name=shlex.quote(parcel.names[0]), into=f"'{into}'", whole=WHOLE
    )
    with _told(f"{target} could not be written"):
        remote.again(lambda: remote.run(command, deadline, input=parcel.stream()))
    return parcel.copied


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Our scripts are nothing that a user has to read: what they said is."""
    try:
        yield
    except RemoteFailed as error:
        raise Failure(what, cause=error.cause) from error


def bring(remote: Remote, paths: Sequence[str], to: Path, deadline: Deadline, *, into: bool = False) -> Copied:
    """Copy files and folders (shell patterns allowed) to `to`: into it where it is a folder, with `into`, or several.

    Links that lead out of the tree and device files do not come: `Failure` names them when the rest is there.
    """
    folder = to if into or to.is_dir() else to.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # After an interrupt another thread may still unpack what is being removed.
        beside = tempfile.TemporaryDirectory(prefix=".g5kdeploy-", dir=folder, ignore_cleanup_errors=True)
    except OSError as error:
        raise Failure(f"{folder} cannot be made or written to", cause=error.strerror or str(error)) from error
    refused: dict[str, str] = {}
    with beside as aside:
        archive, tree = Path(aside, "files.tar"), Path(aside, "tree")
        command = _PACK.format(patterns=" ".join(pattern(path) for path in paths))
        with _told(f"{', '.join(paths)} could not be read"):
            remote.again(lambda: remote.stream(command, archive, deadline))
        tree.mkdir()
        came = unpack(archive, tree, refused)
        sizes = [(tree / name).lstat().st_size for name in came if not (tree / name).is_symlink()]
        copied = Copied(len(came), sum(sizes))
        count = len(came) + len(refused)
        top = sorted(tree.iterdir())
        several = folder is to or len(top) > 1
        for one in top:
            refused |= _place(one, to / one.name if several else to)
    if refused:
        names = ", ".join(f"{name} ({why})" for name, why in list(refused.items())[:SHOWN])
        more = f" and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
        raise Failure(f"{remote.name}: {len(refused)} of {count} did not come", cause=names + more)
    return copied


def _place(source: Path, target: Path) -> dict[str, str]:
    """Rename into place; a folder that is there already keeps what else it has. What cannot be, and why."""
    if source.is_dir() and not source.is_symlink() and target.is_dir():
        refused: dict[str, str] = {}
        for child in sorted(source.iterdir()):
            refused |= _place(child, target / child.name)
        return refused
    if target.exists() and not (target.is_file() or target.is_dir()):  # /dev/null, for one
        return {str(target): "neither file nor folder: nothing takes its place"}
    try:
        target.parent.mkdir(exist_ok=True)
        source.replace(target)
    except OSError as error:
        return {str(target): f"cannot be written: {error.strerror or error}"}
    return {}


def pattern(path: str) -> str:
    """A path for the shell: everything quoted but the characters of patterns."""
    parts = re.split(r"([*?\[\]!-])", _from_home(path))
    return "".join(part if index % 2 else (shlex.quote(part) if part else "") for index, part in enumerate(parts))


def _from_home(path: str) -> str:
    """A path that is not absolute begins at the home, where every command does; nothing at its front is an option."""
    if path.startswith("/"):
        return path
    return f"./{'' if path == '~' else path.removeprefix('~/')}"
