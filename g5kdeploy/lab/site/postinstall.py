"""A description's post-installations: run on the node, as root of another system, with the new one mounted at /mnt/dest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g5kdeploy.base import process, text
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.description import NO_SCRIPT
from g5kdeploy.lab.site import disk
from g5kdeploy.lab.site.nodes import Node
from g5kdeploy.lab.site.site import Site

SITES_OWN = "server:///grid5000/postinstalls/g5k-postinstall.tgz"
"""The site's; what it does for a node the lab does by itself, when it writes the image."""
EXTRACTED, MOUNTED = "/rambin", "/mnt/dest"
SAID_LINES = 8


@dataclass(frozen=True)
class PostInstall:
    """An archive (tar, not compressed), and the command in it that is run; "" for none."""

    archive: Path
    script: str


def fetched(described: Mapping[str, Any], site: Site, folder: Path, deadline: Deadline) -> list[PostInstall]:
    """Fetch a description's post-installations into `folder`; kadeploy has none for images that are no trees."""
    if described["image"].get("kind") != "tar":
        return []
    given = [one for one in described.get("postinstalls") or () if one["archive"] != SITES_OWN]
    return [_fetch(one, site, folder / str(number), deadline) for number, one in enumerate(given)]


def _fetch(given: Mapping[str, Any], site: Site, archive: Path, deadline: Deadline) -> PostInstall:
    url = str(given["archive"])
    if not url.startswith(("http://", "https://")):
        raise Problem(f"the post-installation {url} cannot be reached", cause=f"only {SITES_OWN} and http(s):// can")
    packed = archive.with_suffix(".packed")
    site.download(url, packed, deadline)
    if given["compression"] != "none":
        words: list[str | Path] = ["sh", "-c", 'exec "$0" -dc "$1" > "$2"', str(given["compression"]), packed, archive]
        done = process.run(words, deadline, check=False)
        if done.returncode != 0:
            raise Problem(f"the post-installation {url} cannot be unpacked", cause=text.tail(done.stderr, SAID_LINES))
    else:
        packed.replace(archive)
    script = str(given.get("script") or NO_SCRIPT)
    return PostInstall(archive, "" if script == NO_SCRIPT else script)


def run(installs: list[PostInstall], described: Mapping[str, Any], site: Site, node: Node, deadline: Deadline) -> None:
    """Boot the node into the standard environment, run them there, and switch it off. What they change stays on the disk."""
    site.network.move(node.index, None)
    node.vlan = None
    site.boot_standard(node, deadline)
    try:
        mount = f"mkdir -p {EXTRACTED} {MOUNTED} && mount PARTLABEL={disk.DEPLOY} {MOUNTED}"
        _do(site, node, mount, "the new system cannot be mounted", deadline)
        for one in installs:
            command = f"tar -C {EXTRACTED} -xf -"
            if one.script:
                command += f" && {_variables(described, site.names.cluster)} {EXTRACTED}/{one.script} < /dev/null"
            failure = f"the post-installation {one.script or 'without a script'} failed"
            _do(site, node, command, failure, deadline, one.archive.read_bytes())
        _do(site, node, f"umount {MOUNTED} && sync", "the new system cannot be unmounted", deadline)
    finally:
        node.power_off()


def _do(site: Site, node: Node, command: str, failure: str, deadline: Deadline, input: bytes = b"") -> None:
    done = site.manage(node, command, deadline, input, check=False)
    if done.returncode != 0:
        said = text.clean(text.tail(done.stderr or done.stdout, SAID_LINES)) or f"status {done.returncode}"
        raise Problem(failure, cause=said)


def _variables(described: Mapping[str, Any], cluster: str) -> str:
    """What kadeploy tells such a script, as words of a shell."""
    boot = described.get("boot") or {}
    values = {
        "KADEPLOY_CLUSTER": cluster,
        "KADEPLOY_ENV": described["name"],
        "KADEPLOY_OS_KIND": described["os"],
        "KADEPLOY_ENV_KERNEL": boot.get("kernel", ""),
        "KADEPLOY_ENV_INITRD": boot.get("initrd", ""),
        "KADEPLOY_ENV_KERNEL_PARAMS": boot.get("kernel_params", ""),
        "KADEPLOY_BLOCK_DEVICE": disk.NAME,
        "KADEPLOY_DEPLOY_PART": f"/dev/disk/by-partlabel/{disk.DEPLOY}",
        "KADEPLOY_FS_TYPE": described.get("filesystem", ""),
        "KADEPLOY_PREPOST_EXTRACTION_DIR": EXTRACTED,
        "KADEPLOY_ENV_EXTRACTION_DIR": MOUNTED,
        "KADEPLOY_TMP_DIR": "/tmp",  # noqa: S108  the node's
    }
    return " ".join(f"{name}={shlex.quote(str(value or ''))}" for name, value in values.items())
