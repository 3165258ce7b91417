"""On the node: fetch the bundle, pull the closure from the cache over HTTP, signatures checked, onto the scratch partition."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import clean, human_bytes, tail
from g5kdeploy.boot.problems import BootFailed, CacheUnreachable, NoRoom, PathTampered, SignatureRefused
from g5kdeploy.closure import Bundle
from g5kdeploy.node import Remote, RemoteFailed

RUN = "/run/g5kdeploy"
"""Ours on the node: in memory, gone with the next boot."""

SCRATCH = "/scratch"
SCRATCH_LABEL = "KDPL_TMP_disk0"


@dataclass(frozen=True)
class Source:
    """Where a node pulls from: URL of the site's public web, the cache's and the bundle's place there, the key to trust.

    `owner` marks the store on the scratch partition. kadeploy leaves that partition as it is, so what lies there may be
    somebody else's, and signatures are checked when a path is fetched, not afterwards: a store with another mark is removed.
    """

    web: str
    cache: str
    bundle: Bundle
    public_key: str
    owner: str = ""

    @property
    def cache_url(self) -> str:
        return f"{self.web.rstrip('/')}/{self.cache}"

    @property
    def bundle_url(self) -> str:
        return f"{self.web.rstrip('/')}/{self.bundle.path}"


def fetch_bundle(remote: Remote, source: Source, deadline: Deadline) -> str:
    """Bring Nix and kexec onto the node, checked against their hash; the folder they are in."""
    folder = f"{RUN}/bundle-{source.bundle.sha256[:16]}"
    script = f"""set -e
[ ! -e {folder}/.whole ] || exit 0
mkdir -p {RUN}; cd {RUN}
curl -fsS --retry 3 --retry-delay 1 -o bundle.tar.gz {shlex.quote(source.bundle_url)}
echo '{source.bundle.sha256}  bundle.tar.gz' | sha256sum -c --quiet - || exit 65
rm -rf {folder}; mkdir {folder}; tar -x -z -f bundle.tar.gz -C {folder}; rm bundle.tar.gz
touch {folder}/.whole
"""
    done = remote.run(script, deadline, check=False)
    said = clean(tail(done.stderr, 5))
    if done.status == 65:
        raise PathTampered(f"{remote.name}: the bundle is not the one that was pushed", cause=said)
    if done.status != 0:
        raise CacheUnreachable(
            f"{remote.name} cannot fetch the bundle from {source.bundle_url}",
            cause=said or f"status {done.status}",
            hint="does the node reach the site's public web? try there: curl -I URL",
        )
    return folder


def scratch(remote: Remote, deadline: Deadline) -> bool:
    """Whether the node has a scratch partition, mounted now; one that is blank gets a filesystem first.

    Raises `BootFailed` for one that stage 1 could not read.
    """
    script = f"""device=/dev/disk/by-partlabel/{SCRATCH_LABEL}
if ! mountpoint -q {SCRATCH}; then
  [ -b $device ] || {{ echo none; exit 0; }}
  blkid -p $device > /dev/null 2>&1; [ $? -ne 2 ] || mkfs.ext4 -q -F -m 0 $device || exit 1
  mkdir -p {SCRATCH} && mount $device {SCRATCH} || exit 1
fi
findmnt -n -o FSTYPE {SCRATCH}"""
    done = remote.run(script, deadline, check=False)
    said = done.stdout.split()[-1:]
    if said == ["none"]:
        return False
    if done.status != 0 or said != ["ext4"]:
        raise BootFailed(
            f"{remote.name}: the partition {SCRATCH_LABEL} cannot hold a store",
            cause=clean(tail(done.stderr, 3)) or f"its filesystem is {''.join(said) or 'unknown'}, not ext4",
            hint="deploy the node anew; kadeploy can reformat that partition",
        )
    return True


def pull(
    remote: Remote,
    toplevel: str,
    source: Source,
    bundle: str,
    size: int,
    deadline: Deadline,
    copying: Callable[[int], None] = lambda count: None,
) -> None:
    """Pull a toplevel and all it refers to into the store below /scratch; nothing is fetched twice.

    `size` is the closure's, in bytes, unpacked. `copying` is told how many paths were begun. Raises `SignatureRefused`,
    `PathTampered`, `CacheUnreachable`, `NoRoom`.
    """
    mark = f"{SCRATCH}/nix/.owner"
    remote.run(
        f'[ "$(cat {mark} 2>/dev/null)" = {shlex.quote(source.owner)} ] || rm -rf {SCRATCH}/nix; '
        f"mkdir -p {SCRATCH}/nix && printf %s {shlex.quote(source.owner)} > {mark}",
        deadline,
    )
    room = remote.run(
        f"df -P -B1 {SCRATCH} | tail -n 1; [ -e {SCRATCH}{toplevel} ] && echo there || true", deadline
    ).stdout
    fields = room.split()
    if fields[-1] != "there" and int(fields[3]) < size:
        raise NoRoom(
            f"{remote.name}: {SCRATCH} has {human_bytes(int(fields[3]))} left, the closure needs {human_bytes(size)}",
            hint=f"remove what earlier closures left: rm -rf {SCRATCH}/nix",
        )
    config = "\n".join(
        (
            "experimental-features = nix-command",
            "substituters =",
            "require-sigs = true",
            f"trusted-public-keys = {source.public_key}",
            "build-users-group =",
            "sandbox = false",
            "narinfo-cache-negative-ttl = 0",
            "narinfo-cache-positive-ttl = 0",
            "connect-timeout = 10",
            "download-attempts = 3",
        )
    )
    command = (
        f"HOME={RUN} NIX_CONFIG={shlex.quote(config)} "
        f"{bundle}/bin/nix copy --from {shlex.quote(source.cache_url)} --to {SCRATCH} {toplevel}"
    )
    numbers = itertools.count(1)

    def hear(line: str) -> None:
        if line.startswith("copying path "):
            copying(next(numbers))

    try:
        remote.run(command, deadline, out=hear)
    except RemoteFailed as error:
        raise _explained(remote.name, error, source) from error


_REASONS: tuple[tuple[str, type[BootFailed], str, str], ...] = (
    (
        r"lacks a (?:valid )?signature|lacks a signature by a trusted key|no signature",
        SignatureRefused,
        "{node} refuses a path of the cache: it carries no trusted signature",
        "was it pushed by this tool, with this user's key? push again: g5kdeploy push",
    ),
    (
        r"hash mismatch|bad archive|input compressed|unexpected end|decompress|truncated|invalid|corrupt|Zstd|zstd",
        PathTampered,
        "{node} refuses a path of the cache: its archive is not what its description says",
        "remove it from ~/public/g5kdeploy/cache on the frontend and push again: g5kdeploy push",
    ),
    (
        r"No space left|disk full",
        NoRoom,
        "{node} has no room left for the closure",
        f"remove what earlier closures left: rm -rf {SCRATCH}/nix",
    ),
    (
        r"no substituter|unable to download|(?:Couldn't|Could not) resolve|does not exist in|HTTP error|is not valid|refused",
        CacheUnreachable,
        "{node} cannot fetch from {url}",
        "push again: g5kdeploy push; does the node reach the site's public web?",
    ),
)


def _explained(node: str, error: RemoteFailed, source: Source) -> BootFailed:
    said = clean(tail(error.result.stderr, 5))
    for pattern, kind, what, hint in _REASONS:
        if re.search(pattern, said):
            return kind(what.format(node=node, url=source.cache_url), cause=said, hint=hint)
    return BootFailed(f"{node} could not pull its closure", cause=said or f"status {error.result.status}")
