"""The binary cache: closures signed into a file cache here, and what is missing sent to the frontend's public folder.

A static file cache behind any web server is the fastest there is, and every user of the site has one: `~/public`.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base import debian, folders
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import human_bytes
from g5kdeploy.closure.keys import Key, signing_key
from g5kdeploy.closure.manifest import Manifest
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import Failure
from g5kdeploy.node import Remote

PUBLIC = "public/g5kdeploy"
"""Our folder in the user's home on the frontend."""

CACHE = f"{PUBLIC}/cache"


class PushFailed(Failure):
    """The cache could not be filled."""


@dataclass(frozen=True)
class Pushed:
    """Where nodes find the cache: `path` below the site's public web (`~user/...`), the key that signed it; what moved."""

    path: str
    public_key: str
    paths: int
    bytes: int


def push(manifest: Manifest, roles: Sequence[str], frontend: Remote, deadline: Deadline, emit: Emitter) -> Pushed:
    """Sign the roles' closures and bring what the frontend lacks into its `~/public`, once for all nodes.

    NARs arrive before the narinfos that name them, everything is written aside and renamed, and two pushes at once do
    each other no harm. Raises `PushFailed`, and what a `Remote` raises.
    """
    key = signing_key(deadline)
    with emit.step("sign", detail=f"{len(roles)} roles") as step:
        local, wanted = _sign(manifest, roles, key, deadline)
        step.text = f"{len(wanted)} paths signed by {key.public.split(':')[0]}"
    with emit.step("upload") as step:
        there = _there(frontend, deadline)
        missing = [name for name in wanted if name not in there]
        sent = _upload(local, missing, frontend, deadline) if missing else 0
        step.text = f"{len(missing)} of {len(wanted)} paths, {human_bytes(sent)}" if missing else "nothing is missing"
    user = frontend.run("id -un", deadline).stdout.strip()
    return Pushed(f"~{user}/{CACHE.removeprefix('public/')}", key.public, len(missing), sent)


def _sign(manifest: Manifest, roles: Sequence[str], key: Key, deadline: Deadline) -> tuple[Path, list[str]]:
    """Copy the closures into the local file cache; its folder, and the narinfo names that the roles need."""
    local = folders.cache() / "binary-cache" / key.public.replace(":", "-").replace("/", "_")[:60]
    local.mkdir(parents=True, exist_ok=True)
    tops = sorted({manifest.roles[role].toplevel for role in roles})
    target = f"file://{local}?compression=zstd&parallel-compression=true&secret-key={key.secret}"
    debian.nix(["nix", "copy", "--to", target, *tops], deadline)
    paths = dict.fromkeys(path for role in roles for path in manifest.closure(role))
    return local, [f"{Path(path).name[:32]}.narinfo" for path in paths]


def _there(frontend: Remote, deadline: Deadline) -> set[str]:
    said = frontend.run(f"mkdir -p {CACHE}/nar && chmod 755 public {PUBLIC} {CACHE} && ls {CACHE}", deadline).stdout
    return set(said.split())


def _upload(local: Path, missing: Sequence[str], frontend: Remote, deadline: Deadline) -> int:
    """Send narinfos and their NARs in one stream; the bytes of it."""
    nars = [_nar_of(local / name) for name in missing]
    with tempfile.NamedTemporaryFile(prefix="g5kdeploy-push-", suffix=".tar") as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name in ["nix-cache-info", *nars, *missing]:
                archive.add(local / name, name, filter=_plain)
        stream.flush()
        size = stream.tell()
        frontend.run(_RECEIVE, deadline, input=Path(stream.name), hint="is there room? try: quota -s, on the frontend")
    return size


# Aside, then renamed: NARs first, narinfos last, so that whatever a narinfo names is there
_RECEIVE = f"""set -e
cd {CACHE}
new=$(mktemp -d .incoming.XXXXXX)
trap 'rm -rf "$new"' EXIT
tar -x -C "$new" -f -
chmod -R a+rX "$new"
if [ -d "$new/nar" ]; then find "$new/nar" -type f -exec mv -f {{}} nar/ +; fi
mv -f "$new/nix-cache-info" .
find "$new" -maxdepth 1 -name '*.narinfo' -exec mv -f {{}} . +
"""


def _nar_of(narinfo: Path) -> str:
    try:
        for line in narinfo.read_text().splitlines():
            if line.startswith("URL: "):
                return line.removeprefix("URL: ")
    except OSError as error:
        raise PushFailed(f"{narinfo} is not in the local cache", cause=error.strerror or str(error)) from error
    raise PushFailed(f"{narinfo} names no archive", hint=f"delete {narinfo.parent} and push again")


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
