"""A node's disk: sparse, with Grid'5000's partitions, made and filled without mounting anything."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base import process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem

MIB = 2**20
SIZE = 10 * 10**9 // MIB * MIB  # bytes, as the reference data says
NAME = "disk0"
SWAP, PROD, DEPLOY, TMP = "KDPL_SWAP_disk0", "KDPL_PROD_disk0", "KDPL_DEPLOY_disk0", "KDPL_TMP_disk0"
_TABLE = f"""\
label: gpt
1 : start=1MiB, size=256MiB, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, name={SWAP}
2 : size=1536MiB, type=linux, name={PROD}
3 : size=2560MiB, type=linux, name={DEPLOY}
5 : size=+, type=linux, name={TMP}
"""
# What any kernel of the last years can read and any mke2fs can write
_MKFS = ("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E")


@dataclass(frozen=True)
class Partition:
    """A partition of a disk image; offset and size in bytes."""

    disk: Path
    offset: int
    size: int


def make(path: Path, deadline: Deadline) -> None:
    """A new disk: partition table, swap, and an empty /scratch; takes a few MiB of real space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    with aside.open("wb") as file:
        file.truncate(SIZE)
    hint = "apt-get install fdisk e2fsprogs"
    process.run(["sfdisk", "--quiet", aside], deadline, input=_TABLE, hint=hint)
    found = partitions(aside, deadline)
    _make_swap(found[SWAP])
    make_ext4(found[TMP], deadline, label="scratch")
    aside.replace(path)


def partitions(path: Path, deadline: Deadline) -> dict[str, Partition]:
    """The partitions of a disk by name; empty when it has no table that can be read."""
    done = process.run(["sfdisk", "--json", path], deadline, check=False)
    if done.returncode != 0:
        return {}
    table = json.loads(done.stdout)["partitiontable"]
    sector = int(table.get("sectorsize", 512))
    return {
        entry["name"]: Partition(path, entry["start"] * sector, entry["size"] * sector)
        for entry in table["partitions"]
        if "name" in entry
    }


def _make_swap(where: Partition) -> None:
    """A swap header, as mkswap writes it: it knows no offset."""
    page = 4096
    header = bytearray(page)
    header[1024:1036] = (1).to_bytes(4, "little") + (where.size // page - 1).to_bytes(4, "little") + bytes(4)
    header[1036:1052] = os.urandom(16)
    header[-10:] = b"SWAPSPACE2"
    with where.disk.open("r+b") as file:
        file.seek(where.offset)
        file.write(header)


def make_ext4(where: Partition, deadline: Deadline, *, label: str = "") -> None:
    """An empty ext4 filesystem."""
    options = f"offset={where.offset},nodiscard,lazy_itable_init=1,lazy_journal_init=1"
    words = [*_MKFS, options, *(["-L", label] if label else []), str(where.disk), f"{where.size // 1024}k"]
    process.run(words, deadline)


def clear(where: Partition, deadline: Deadline) -> None:
    """Leave nothing in a partition but zeros, which take no room."""
    process.run(["fallocate", "--punch-hole", "-o", str(where.offset), "-l", str(where.size), where.disk], deadline)


def fill(where: Partition, image: Path, deadline: Deadline) -> None:
    """Write an image into a partition, and nothing but holes behind it; holes of the image stay holes."""
    size = image.stat().st_size
    if size > where.size:
        raise Problem(f"the image of {size // MIB} MiB does not fit into the partition of {where.size // MIB} MiB")
    clear(where, deadline)
    with image.open("rb") as source, where.disk.open("r+b") as target:
        handle, at = source.fileno(), 0
        while at < size:
            try:
                begin = os.lseek(handle, at, os.SEEK_DATA)
            except OSError:
                break  # only a hole is left
            at = os.lseek(handle, begin, os.SEEK_HOLE)
            _copy(handle, target.fileno(), begin, where.offset + begin, at - begin, deadline)


def _copy(source: int, target: int, begin: int, to: int, count: int, deadline: Deadline) -> None:
    while count:
        deadline.check("the image is being written")
        data = os.pread(source, min(count, 8 * MIB), begin)
        if not data:
            raise Problem("the image became shorter while it was written")
        os.pwrite(target, data, to)
        begin, to, count = begin + len(data), to + len(data), count - len(data)


def debugfs(where: Partition, commands: list[str], deadline: Deadline) -> str:
    """Change an ext4 filesystem that is not mounted, by debugfs's commands; returns what it said."""
    done = process.run(
        ["debugfs", "-w", "-f", "-", f"{where.disk}?offset={where.offset}"], deadline, input="\n".join(commands) + "\n"
    )
    return done.stdout + done.stderr
