"""On the node: fetch the bundle, pull the closure from the cache over HTTP, signatures checked, onto the scratch partition."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
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
    somebody else's, and Nix checks signatures when it fetches a path, not afterwards: a store with another mark is
    verified, content and signatures, before it is used.
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
    closure: Iterable[str],
    source: Source,
    bundle: str,
    size: int,
    deadline: Deadline,
    copying: Callable[[int], None] = lambda count: None,
) -> None:
    """Pull a toplevel and all it refers to, its `closure`, into the store below /scratch; nothing is fetched twice.

    Where all of it lies there and is verified the cache is not even asked. `size` is the closure's, in bytes, unpacked.
    `copying` is told how many paths were begun. Raises `SignatureRefused`, `PathTampered`, `CacheUnreachable`, `NoRoom`.
    """
    nix = f"HOME={RUN} NIX_CONFIG={shlex.quote(_configuration(source))} {bundle}/bin/nix"
    if _kept(remote, toplevel, list(closure), source, nix, size, deadline):
        return
    command = f"{nix} copy --from {shlex.quote(source.cache_url)} --to {SCRATCH} {toplevel}"
    numbers = itertools.count(1)

    def hear(line: str) -> None:
        if line.startswith("copying path "):
            copying(next(numbers))

    try:
        remote.run(command, deadline, out=hear)
    except RemoteFailed as error:
        raise _explained(remote.name, error, source) from error


def _configuration(source: Source) -> str:
    return "\n".join(
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


def _kept(
    remote: Remote, toplevel: str, closure: Sequence[str], source: Source, nix: str, size: int, deadline: Deadline
) -> bool:
    """Keep of the store on the scratch partition what can be trusted, and see that the closure fits beside it.

    All or nothing: one path of the closure that is not what a trusted key signed, and the store is removed. Answers
    whether the whole closure is there and was verified.
    """
    store, mark = f"{SCRATCH}/nix", f"{SCRATCH}/nix/.owner"
    # Signatures are asked for (-n 1) also of paths that the database calls its own: whoever wrote it could say that
    script = f"""
whole=
if [ "$(cat {mark} 2>/dev/null)" != {shlex.quote(source.owner)} ]; then
  kept=$(while read -r path; do [ ! -e "{SCRATCH}$path" ] || echo "$path"; done)
  if [ -n "$kept" ] && ! {nix} store verify --store {SCRATCH} -n 1 $kept > /dev/null 2>&1; then kept=; fi
  [ -n "$kept" ] || rm -rf {store}
  [ "$(echo "$kept" | wc -w)" -ne {len(closure)} ] || whole=yes
fi
room() {{ df -P -B1 {SCRATCH} | tail -n 1 | awk '{{print $4}}'; }}
[ -e {SCRATCH}{toplevel} ] || [ "$(room)" -ge {size} ] || rm -rf {store}
mkdir -p {store} && printf %s {shlex.quote(source.owner)} > {mark} || exit 1
if [ -n "$whole" ]; then echo whole; elif [ -e {SCRATCH}{toplevel} ]; then echo there; else room; fi"""
    said = remote.run(script, deadline, input="".join(f"{path}\n" for path in closure).encode()).stdout.strip()
    if said not in ("whole", "there") and int(said) < size:
        raise NoRoom(
            f"{remote.name}: {SCRATCH} has {human_bytes(int(said))} left, the closure needs {human_bytes(size)}",
            hint="deploy the node anew with its scratch partition reformatted, or make the closure smaller",
        )
    return said == "whole"


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
