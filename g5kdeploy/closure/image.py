"""A role's store as one image: in the initrd, for nodes without a scratch partition, or as an archive that kadeploy unpacks."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base import folders
from g5kdeploy.base.cpio import Entry, archive
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.process import run
from g5kdeploy.base.text import human_bytes
from g5kdeploy.closure.cache import PUBLIC
from g5kdeploy.closure.manifest import Manifest
from g5kdeploy.events.event import Emitter
from g5kdeploy.node import Remote

STORE = "store.squashfs"
"""Its name in the initrd: `store=initrd:/store.squashfs`."""


@dataclass(frozen=True)
class Part:
    """A file below the site's public web: its place there, hash, and size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Image:
    """What a node without a scratch partition boots from: kernel, initrd, and the store as a further part of the initrd."""

    kernel: Part
    initrd: Part
    store: Part


def push_image(manifest: Manifest, role: str, frontend: Remote, deadline: Deadline, emit: Emitter) -> Image:
    """Make the image of a role's closure and bring it into the frontend's public folder, unless it is there."""
    closure = manifest.roles[role]
    with emit.step(f"image of {role}") as step:
        kernel = _push(Path(closure.kernel), "kernel", frontend, deadline)
        initrd = _push(Path(closure.initrd), "initrd", frontend, deadline)
        store = _push(_make(manifest, role, deadline), "store", frontend, deadline)
        step.text = human_bytes(store.size)
    return Image(kernel, initrd, store)


def _push(local: Path, kind: str, frontend: Remote, deadline: Deadline) -> Part:
    digest = hashlib.sha256(local.read_bytes()).hexdigest()
    name = f"{PUBLIC}/{kind}-{digest[:16]}"
    there = frontend.run(f"id -un; sha256sum {name} 2>/dev/null || true", deadline).stdout.split()
    if there[1:2] != [digest]:
        frontend.put(local, name, deadline)
    return Part(f"~{there[0]}/{name.removeprefix('public/')}", digest, local.stat().st_size)


def _make(manifest: Manifest, role: str, deadline: Deadline) -> Path:
    top = Path(manifest.roles[role].toplevel)
    made = folders.cache() / "images" / f"{top.name}.cpio"
    if made.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    squashed = made.with_suffix(".squashfs")
    squash(manifest.closure(role), squashed, deadline, "-comp", "zstd")
    aside = made.with_suffix(".new")
    content = archive({STORE: Entry(squashed.read_bytes())})
    aside.write_bytes(content + bytes(-len(content) % 512))
    squashed.unlink()
    aside.replace(made)
    return made


def tarball(manifest: Manifest, role: str, deadline: Deadline) -> Path:
    """A role's closure as kadeploy unpacks it onto a partition: its store, and folders for what a post-installation writes.

    Made once for each toplevel; the same closure makes the same archive.
    """
    top = Path(manifest.roles[role].toplevel)
    made = folders.cache() / "images" / f"{top.name}.tar.zst"
    if made.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as own:
        aside, empty = Path(own) / made.name, Path(own) / "empty"
        for name, mode in (("etc", 0o755), ("root", 0o700)):
            (empty / name).mkdir(mode, parents=True)
        words = ["tar", "--create", "--use-compress-program=zstd -3 -T0", "--sort=name", "--format=gnu", "--mtime=@1"]
        words += ["--owner=0", "--group=0", "--numeric-owner", f"--file={aside}", f"--directory={empty}", "etc", "root"]
        paths = "".join(f"{path.removeprefix('/')}\n" for path in sorted(manifest.closure(role)))
        run([*words, "--directory=/", "--files-from=-"], deadline, input=paths, hint="apt-get install zstd")
        aside.replace(made)
    return made


def squash(paths: Iterable[str], to: Path, deadline: Deadline, *compression: str) -> None:
    """Store paths as a squashfs, below nix/store as on a disk; `compression` are mksquashfs's own words."""
    to.unlink(missing_ok=True)
    # -all-root and fixed times make the same closure the same image
    options = ["-no-strip", "-all-root", "-no-xattrs", "-mkfs-time", "1", "-all-time", "1", "-quiet", "-no-progress"]
    pseudo = ["-p", "nix d 755 0 0", "-p", "nix/store d 755 0 0"]
    words: list[str | Path] = ["mksquashfs", *sorted(paths), to, *options, *compression, *pseudo]
    run(words, deadline, hint="apt-get install squashfs-tools")
