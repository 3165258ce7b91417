"""Images of environments: the registered ones, which the lab builds, and any that a description's URL leads to."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from g5kdeploy.base import process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab import environments
from g5kdeploy.lab.deployments import Deployment
from g5kdeploy.lab.site import disk, postinstall
from g5kdeploy.lab.site.site import Site
from g5kdeploy.lab.site.systems import System

SITES_IMAGES = {
    f"server:///grid5000/images/{name}.squashfs": name for name in environments.NAMES if name != environments.STANDARD
}
"""Images that the site has, and the environments whose they are."""
DEPLOY_SIZE = 2560 * disk.MIB
IMAGE = "root.img"
LOOK_SECONDS = 30.0
FILESYSTEMS = ("ext4", "ext3", "ext2")


def unreachable(site: Site, url: str) -> str:
    """Why the site cannot read a file that a description names, "" when it can."""
    if url in SITES_IMAGES or url == postinstall.SITES_OWN:
        return ""
    if not url.startswith(("http://", "https://")):
        return "no such file"
    words = ["curl", "--fail", "--silent", "--show-error", "--location", "--head", "--output", "/dev/null", "--", url]
    done = process.run([*site.namespace.enter(mounts=True), *words], Deadline.after(LOOK_SECONDS, url), check=False)
    return done.stderr.strip() if done.returncode else ""


class BadImage(Problem):
    """An image that cannot be deployed."""


class Images:
    """Finds the system that a deployment means; foreign images are fetched and unpacked once, by content."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._site = site
        self.folder = folder
        self._lock = threading.Lock()

    def system(self, deployment: Deployment, deadline: Deadline) -> System:
        """The system of a deployment's environment; raises `BadImage` for one that no node could boot."""
        described = deployment.description
        image = described.get("image")
        if not isinstance(image, Mapping) or not image.get("file"):
            raise BadImage("the environment's description names no image")
        file = str(image["file"])
        if file in SITES_IMAGES:
            return self._site.environment(SITES_IMAGES[file], deadline)
        if not file.startswith(("http://", "https://")):
            raise BadImage(f"the image {file} cannot be reached", cause="only server:// and http(s):// can")
        with self._lock:
            return self._foreign(file, str(image["kind"]), str(image["compression"]), described, deadline)

    def _foreign(
        self, url: str, kind: str, compression: str, described: Mapping[str, Any], deadline: Deadline
    ) -> System:
        if kind != "tar":
            raise BadImage(f"the lab cannot deploy an image of kind {kind}", cause="it knows tar")
        boot = described.get("boot")
        if not isinstance(boot, Mapping) or not boot.get("kernel"):
            raise BadImage("the environment's description names no kernel")
        filesystem = str(described.get("filesystem", FILESYSTEMS[0]))
        if filesystem not in FILESYSTEMS:
            raise BadImage(f"the lab cannot make a filesystem {filesystem}", cause=f"it knows {', '.join(FILESYSTEMS)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        archive = self.folder / "download"
        self._site.download(url, archive, deadline)
        with archive.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()[:32]
        own = self.folder / f"{digest}-{filesystem}"
        if not (own / IMAGE).exists():
            self._unpack(archive, compression, own, filesystem, deadline)
        archive.unlink()
        kernel = self._extract(own, str(boot["kernel"]), deadline)
        initrd = self._extract(own, str(boot["initrd"]), deadline) if boot.get("initrd") else None
        params = f"root=PARTLABEL={disk.DEPLOY} rw console=ttyS0 {boot.get('kernel_params') or ''}".strip()
        return System(str(described.get("name", digest)), kernel, initrd, params, own / IMAGE, handover=False)

    def _unpack(self, archive: Path, compression: str, own: Path, filesystem: str, deadline: Deadline) -> None:
        """The archive's tree as a filesystem of the partition's size; kernels are taken from it afterwards."""
        aside = own.with_name(f"{own.name}.new")
        shutil.rmtree(aside, ignore_errors=True)
        tree = aside / "tree"
        tree.mkdir(parents=True)
        words = [
            "tar",
            "--extract",
            "--numeric-owner",
            "--preserve-permissions",
            "--file",
            archive,
            "--directory",
            tree,
        ]
        if compression != "none":
            words.insert(1, f"--use-compress-program={compression}")
        run = self._site.namespace.run
        done = run([str(word) for word in words], deadline, check=False)
        if done.returncode != 0:
            shutil.rmtree(aside, ignore_errors=True)
            raise BadImage("the image cannot be unpacked", cause=done.stderr.strip()[-400:])
        image = aside / IMAGE
        with image.open("wb") as file:
            file.truncate(DEPLOY_SIZE)
        made = run(
            ["mke2fs", "-t", filesystem, "-q", "-F", "-b", "4096", "-m", "0", "-d", str(tree), str(image)],
            deadline,
            check=False,
        )
        if made.returncode != 0:
            raise BadImage("the image does not fit onto the partition", cause=made.stderr.strip()[-400:])
        run(["rm", "-rf", str(tree)], deadline)
        shutil.rmtree(own, ignore_errors=True)
        aside.replace(own)

    def _extract(self, own: Path, path: str, deadline: Deadline) -> Path:
        """A file out of the image, as the boot loader reads it; links are followed inside the image."""
        target = own / hashlib.sha256(path.encode()).hexdigest()[:16]
        if target.exists():
            return target
        where = disk.Partition(own / IMAGE, 0, DEPLOY_SIZE)
        for _ in range(10):
            said = disk.debugfs(where, [f"stat {path}"], deadline)
            if "Type: symlink" in said:
                link = _link(said) or _long_link(where, path, own / "link", deadline)
                path = link if link.startswith("/") else str(Path(path).parent / link)
                continue
            if "Type: regular" not in said:
                raise BadImage(f"the image has no {path}", cause="the description names it to be booted")
            aside = target.with_suffix(".new")
            disk.debugfs(where, [f"dump {path} {aside}"], deadline)
            aside.replace(target)
            return target
        raise BadImage(f"the link {path} in the image leads nowhere")


def _long_link(where: disk.Partition, path: str, scratch: Path, deadline: Deadline) -> str:
    """The target of a link that is too long for its inode: it stands in a block of its own, as a file's content does."""
    disk.debugfs(where, [f"dump {path} {scratch}"], deadline)
    target = scratch.read_text(errors="replace")
    scratch.unlink()
    return target


def _link(said: str) -> str | None:
    """The target of a link, as debugfs's `stat` tells it; None when it is too long to stand there."""
    for line in said.splitlines():
        if line.startswith("Fast link dest:"):
            return line.partition('"')[2].rpartition('"')[0]
    return None
