"""Without a scratch partition the store travels in the initrd; whether it fits is found out before, not by a panic."""

from __future__ import annotations

import shlex

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import clean, human_bytes
from g5kdeploy.boot.problems import CacheUnreachable, NoRoom, PathTampered
from g5kdeploy.boot.pull import RUN, Source
from g5kdeploy.closure.image import Image, Part
from g5kdeploy.node import Remote

SLACK = 256 * 1024**2  # bytes of memory that kernel, stage 1 and services need beside the store


def fetch_image(remote: Remote, image: Image, source: Source, deadline: Deadline) -> list[str]:
    """Bring kernel, initrd and store into the node's memory, checked against their hashes; their paths there.

    The store is held three times for a moment: as a file, as the loaded initrd, and unpacked by the new kernel.
    """
    needed = 3 * image.store.size + SLACK
    free = int(remote.run("awk '/^MemAvailable/{print $2}' /proc/meminfo", deadline).stdout) * 1024
    if free < needed:
        raise NoRoom(
            f"{remote.name} has no scratch partition, and its memory is too small for a store in it",
            cause=f"{human_bytes(free)} are free, {human_bytes(needed)} are needed",
            hint="ask for nodes with more memory, or make the closure smaller",
        )
    return [_fetch(remote, part, source, deadline) for part in (image.kernel, image.initrd, image.store)]


def _fetch(remote: Remote, part: Part, source: Source, deadline: Deadline) -> str:
    path = f"{RUN}/{part.sha256[:16]}"
    url = f"{source.web.rstrip('/')}/{part.path}"
    script = f"""set -e
mkdir -p {RUN}
curl -fsS --retry 3 --retry-delay 1 -o {path} {shlex.quote(url)}
echo '{part.sha256}  {path}' | sha256sum -c --quiet - || exit 65
"""
    done = remote.run(script, deadline, check=False)
    if done.status == 65:
        raise PathTampered(f"{remote.name}: {url} is not what was pushed", cause=clean(done.stderr.strip()))
    if done.status != 0:
        raise CacheUnreachable(f"{remote.name} cannot fetch {url}", cause=clean(done.stderr.strip()))
    return path
