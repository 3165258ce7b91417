"""A node's disk, made by the real tools and read back by them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from g5kdeploy.base.cpio import Entry
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.site import disk
from g5kdeploy.lab.site.names import LAB
from g5kdeploy.lab.site.namespace import Namespace
from g5kdeploy.lab.site.nodes import Hardware, Node, _into_filesystem


def deadline() -> Deadline:
    return Deadline.after(120, "a test")


def test_a_disk_has_the_sites_partitions_and_takes_no_space(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    disk.make(path, deadline())
    found = disk.partitions(path, deadline())
    assert set(found) == {disk.SWAP, disk.PROD, disk.DEPLOY, disk.TMP}
    assert path.stat().st_size == disk.SIZE and path.stat().st_blocks * 512 < 200 * disk.MIB
    said = subprocess.run(["sfdisk", "--json", path], capture_output=True, text=True, timeout=60, check=True).stdout
    table = json.loads(said)["partitiontable"]
    assert table["label"] == "gpt"
    assert {p["node"].removeprefix(str(path)): p["name"] for p in table["partitions"]}["5"] == disk.TMP
    checked = subprocess.run(
        ["e2fsck", "-fn", f"{path}?offset={found[disk.TMP].offset}"], capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    swap = found[disk.SWAP]
    with path.open("rb") as file:
        file.seek(swap.offset + 4086)
        assert file.read(10) == b"SWAPSPACE2"


def test_no_table_no_partitions(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"\0" * 4096)
    assert disk.partitions(tmp_path / "disk", deadline()) == {}


def test_an_image_fills_its_partition_and_nothing_else(tmp_path: Path) -> None:
    path, image = tmp_path / "disk", tmp_path / "image"
    disk.make(path, deadline())
    where = disk.partitions(path, deadline())[disk.DEPLOY]
    with image.open("wb") as file:
        file.write(b"old" * 1000)
        file.seek(3 * disk.MIB)
        file.write(b"end")
    disk.fill(where, image, deadline())
    image.write_bytes(b"new")
    disk.fill(where, image, deadline())
    with path.open("rb") as file:
        file.seek(where.offset)
        content = file.read(4 * disk.MIB)
    assert content.startswith(b"new\0") and not content.strip(b"\0").removeprefix(b"new")
    assert set(disk.partitions(path, deadline())) == {disk.SWAP, disk.PROD, disk.DEPLOY, disk.TMP}


def test_an_image_that_is_too_large_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(10 * disk.MIB)
    with pytest.raises(Problem, match="does not fit"):
        disk.fill(disk.Partition(tmp_path / "disk", 0, disk.MIB), image, deadline())


def test_keys_and_names_are_written_into_a_filesystem(tmp_path: Path) -> None:
    path = tmp_path / "fs"
    with path.open("wb") as file:
        file.truncate(32 * disk.MIB)
    where = disk.Partition(path, disk.MIB, 31 * disk.MIB)
    disk.make_ext4(where, deadline())
    entries = {"handover/root/.ssh/authorized_keys": Entry(b"ssh-ed25519 AAAA\n", 0o600)}
    _into_filesystem(where, entries, tmp_path, deadline())
    again = {"handover/root/.ssh/authorized_keys": Entry(b"ssh-ed25519 BBBB\n", 0o600)}
    _into_filesystem(where, again, tmp_path, deadline())
    said = disk.debugfs(where, ["cat /root/.ssh/authorized_keys", "stat /root/.ssh/authorized_keys"], deadline())
    assert "BBBB" in said and "AAAA" not in said
    assert "Mode:  0600" in said
    assert not (tmp_path / "handover").exists()


def test_a_node_forgets_its_systems_and_keeps_its_scratch_partition(tmp_path: Path) -> None:
    node = Node(LAB, 1, tmp_path / "vm-1", Hardware(1024, 1), Namespace())
    where = node.ensure_disk(deadline())
    marks = {name: name.encode() for name in (disk.PROD, disk.DEPLOY, disk.TMP)}
    for name, mark in marks.items():
        with where[name].disk.open("r+b") as file:
            file.seek(where[name].offset + 2**20)
            file.write(mark)
        (node.folder / f"{name}.json").write_text("{}")
    (node.folder / "node.json").write_text('{"runs": "debian12-min"}')
    node.forget()
    assert not node.runs
    assert not (node.folder / f"{disk.DEPLOY}.json").exists(), "else the partition would be taken for installed"
    for name, mark in marks.items():
        with where[name].disk.open("rb") as file:
            file.seek(where[name].offset + 2**20)
            assert file.read(len(mark)) == (mark if name == disk.TMP else bytes(len(mark))), name
