"""The binary cache: closures signed into a file cache here, and what is missing sent to the frontend's public folder.

A static file cache behind any web server is the fastest there is, and every user of the site has one: `~/public`.
"""

from __future__ import annotations

import hashlib
import shlex
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from g5kdeploy.base import debian, files, folders
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.process import CommandFailed
from g5kdeploy.base.text import human_bytes
from g5kdeploy.closure.keys import Key, signing_key
from g5kdeploy.closure.manifest import Manifest
from g5kdeploy.closure.narinfo import Narinfo, name_of
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import Failure
from g5kdeploy.node import Remote, RemoteFailed

PUBLIC = "public/g5kdeploy"
"""Our folder in the user's home on the frontend."""

FOLDER = "g5kdeploy/cache"
"""The cache's folder below ~/public, unless the experiment says otherwise."""
_INFO = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n"


class PushFailed(Failure):
    """The cache could not be filled."""


@dataclass(frozen=True)
class Pushed:
    """Where nodes find the cache: `path` below the site's public web (`~user/...`), the key that signed it; how many
    paths moved, and in how many bytes.
    """

    path: str
    public_key: str
    paths: int
    bytes: int


def push(
    manifest: Manifest,
    roles: Sequence[str],
    frontend: Remote,
    deadline: Deadline,
    emit: Emitter,
    folder: str = FOLDER,
) -> Pushed:
    """Sign the roles' closures and bring what the frontend lacks into `folder` of its `~/public`, once for all nodes.

    NARs arrive before the narinfos that name them, everything is written aside and renamed, and two pushes at once do
    each other no harm. An archive that was cut there is sent again. Raises `PushFailed`, and what a `Remote` raises.
    """
    key = signing_key(deadline)
    with emit.step("sign", detail=", ".join(roles)) as step:
        local, wanted = sign(manifest, roles, key, deadline)
        step.text = f"{len(wanted)} paths signed by {key.public.split(':')[0]}"
    with emit.step("upload") as step:
        user, there = _there(frontend, folder, deadline)
        missing = [info for info in wanted if _is_missing(info, there)]
        sent = _upload(local, missing, there, frontend, folder, deadline) if missing else 0
        step.text = f"{len(missing)} of {len(wanted)} paths, {human_bytes(sent)}" if missing else "nothing is missing"
    return Pushed(f"~{user}/{folder}", key.public, len(missing), sent)


def sign(manifest: Manifest, roles: Iterable[str], key: Key, deadline: Deadline) -> tuple[Path, list[Narinfo]]:
    """Copy the roles' closures into the local file cache, signed; its folder, and the description of every path."""
    # One folder for each key: a path that was signed by another is not in it
    local = folders.cache() / "binary-cache" / hashlib.sha256(key.public.encode()).hexdigest()[:16]
    roles = list(roles)
    names = [name_of(path) for path in dict.fromkeys(path for role in roles for path in manifest.closure(role))]
    if not all((local / name).exists() for name in names):
        local.mkdir(parents=True, exist_ok=True)
        tops = sorted({manifest.roles[role].toplevel for role in roles})
        target = f"file://{local}?compression=zstd&parallel-compression=true&secret-key={key.secret}"
        try:
            debian.nix(["nix", "copy", "--to", target, *tops], deadline)
        except CommandFailed as error:
            raise PushFailed("the closures cannot be packed and signed", cause=error.cause, hint=error.hint) from error
    files.write(local / "nix-cache-info", _INFO)
    return local, [Narinfo.load(local / name) for name in names]


def _there(frontend: Remote, folder: str, deadline: Deadline) -> tuple[str, dict[str, str]]:
    """The user's name on the frontend; for every file of the cache there its size (archives) or hash (narinfos)."""
    place = PurePosixPath("public") / folder
    readable = " ".join(shlex.quote(str(one)) for one in (*reversed(place.parents[:-1]), place, place / "nar"))
    command = (
        f"set -e; id -un; mkdir -p {readable}; chmod 755 {readable}; cd {shlex.quote(str(place))}; "
        "find nar -type f -printf '%s %p\\n'; find . -maxdepth 1 -name '*.narinfo' -exec sha256sum {} +"
    )
    try:
        user, *lines = frontend.run(command, deadline).stdout.splitlines()
    except RemoteFailed as error:
        raise PushFailed(
            f"{frontend.name}: ~/{place} cannot be used",
            cause=error.cause,
            hint="~/public must be a folder of yours that can be written to",
        ) from error
    pairs = (line.split(maxsplit=1) for line in lines)
    return user, {name.removeprefix("./"): value for value, name in pairs}


def _is_missing(info: Narinfo, there: Mapping[str, str]) -> bool:
    return there.get(info.name) != info.digest or there.get(info.url) != str(info.file_size)


def _upload(
    local: Path, missing: Sequence[Narinfo], there: Mapping[str, str], frontend: Remote, folder: str, deadline: Deadline
) -> int:
    """Send narinfos and their archives in one stream; the bytes of it."""
    archives = [info.url for info in missing if there.get(info.url) != str(info.file_size)]
    names = ["nix-cache-info", *dict.fromkeys(archives), *(info.name for info in missing)]
    with tempfile.NamedTemporaryFile(prefix=".push-", suffix=".tar", dir=local) as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name in names:
                archive.add(local / name, name, filter=_plain)
        stream.flush()
        size = stream.tell()
        try:
            receive = f"set -e\ncd {shlex.quote(f'public/{folder}')}\n{_RECEIVE}"
            frontend.run(f"sh -c {shlex.quote(receive)}", deadline, input=Path(stream.name))
        except RemoteFailed as error:
            raise PushFailed(
                f"{frontend.name} could not take the closures",
                cause=error.cause,
                hint="is there room in the home folder? on the frontend: quota -s",
            ) from error
    return size


# Aside, then renamed: archives first, narinfos last, so that whatever a narinfo names is there. A stream that was cut
# ends in tar's complaint, and nothing of it stays.
_RECEIVE = """new=$(mktemp -d .incoming.XXXXXX)
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
tar -x -C "$new" -f -
chmod -R a+rX "$new"
[ ! -d "$new/nar" ] || find "$new/nar" -type f -exec mv -f -t nar {} +
mv -f "$new/nix-cache-info" .
find "$new" -maxdepth 1 -name '*.narinfo' -exec mv -f -t . {} +
find . -maxdepth 1 -name '.incoming.*' -mtime +1 -exec rm -rf {} +
"""


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
