"""Systems that a node can boot: kernel, initrd, parameters, and what stands on its partition."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.lab.site import disk


@dataclass(frozen=True)
class System:
    """A bootable environment.

    `image` is the content of the partition, `partition` its label. `handover`: the initrd takes an appended archive
    with host key, root's keys and names; otherwise these are written into the image's ext4 filesystem.
    """

    name: str
    kernel: Path
    initrd: Path | None
    append: str
    image: Path
    partition: str = disk.DEPLOY
    handover: bool = True
