"""An environment of our own as kadeploy takes it: a tar archive of a system's store, and its description."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from g5kdeploy.base import debian
from g5kdeploy.base.deadline import Deadline
from tests.support.lab import CACHE


def tar_image(archive: Path, environment: str = "debian12-min") -> dict[str, Any]:
    """Pack the store of an environment that was built before into `archive` (.tar.zst); what a description says of it."""
    built = json.loads((CACHE / "environments" / f"{environment}.json").read_text())
    found = re.search(r"init=(\S+)/init", built["append"])
    assert found is not None, built
    toplevel = found[1]
    deadline = Deadline.after(300, "the closure of an environment")
    paths = debian.nix(["nix-store", "--query", "--requisites", toplevel], deadline).stdout.split()
    words = ["tar", "--create", "--use-compress-program=zstd -1 -T2", "--owner=0", "--group=0", "--file", str(archive)]
    names = "".join(f"{path.removeprefix('/')}\n" for path in paths)
    subprocess.run([*words, "--directory=/", "--files-from=-"], input=names, text=True, check=True, timeout=300)
    return {
        "version": 1,
        "arch": "x86_64",
        "visibility": "private",
        "os": "linux",
        "image": {"file": archive.name, "kind": "tar", "compression": "zstd"},
        "boot": {
            "kernel": f"{toplevel}/kernel",  # a link, and a long one
            "initrd": f"{toplevel}/initrd",
            "kernel_params": f"init={toplevel}/init store=PARTLABEL=KDPL_DEPLOY_disk0 quiet",
        },
        "filesystem": "ext3",
        "partition_type": 131,
    }
