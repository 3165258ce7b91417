"""What a node needs to pull and kexec and does not have: one small archive with Nix and kexec, pushed once.

Grid'5000's environments carry neither, and nothing is installed on a node from elsewhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from g5kdeploy.base import debian
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.closure.cache import PUBLIC
from g5kdeploy.events.event import Emitter
from g5kdeploy.node import Remote


@dataclass(frozen=True)
class Bundle:
    """The archive's place below the site's public web, and what its content must hash to."""

    path: str
    sha256: str


def push_bundle(frontend: Remote, deadline: Deadline, emit: Emitter) -> Bundle:
    """Make the archive when it is not there, and send it when the frontend has not got it."""
    with emit.step("bundle", detail="Nix and kexec for the nodes; they are packed once") as step:
        archive = debian.bundle(deadline)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        name = f"{PUBLIC}/bundle-{digest[:16]}.tar.gz"
        there = frontend.run(f"sha256sum {name} 2>/dev/null || true", deadline).stdout.split()
        if there[:1] != [digest]:
            frontend.put(archive, name, deadline)
            step.text = f"{archive.stat().st_size // 1024} KiB sent"
        else:
            step.text = "is there already"
    user = frontend.run("id -un", deadline).stdout.strip()
    return Bundle(f"~{user}/{name.removeprefix('public/')}", digest)
