"""What came from a node is unpacked, and nothing of it lands elsewhere."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from g5kdeploy.node.unpacking import unpack


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.uid, info.gid = kind, link, mode, 4711, 4711
    info.size = 3 if kind == tarfile.REGTYPE else 0
    return info


def packed(folder: Path, *members: tarfile.TarInfo) -> Path:
    archive = folder / "files.tar"
    with tarfile.open(archive, "w") as tar:
        for one in members:
            tar.addfile(one, io.BytesIO(b"abc"))
    return archive


def test_files_folders_and_links_within_come(tmp_path: Path) -> None:
    tree, refused = tmp_path / "tree", {}
    tree.mkdir()
    archive = packed(
        tmp_path,
        member("var", tarfile.DIRTYPE, mode=0o700),
        member("var/log", mode=0o4777),
        member("/etc/name"),
        member("var/same", tarfile.LNKTYPE, "var/log", 0o4777),
        member("var/up", tarfile.SYMTYPE, "../etc/name"),
    )
    assert unpack(archive, tree, refused) == ["var/log", "etc/name", "var/same", "var/up"]
    assert not refused
    assert (tree / "var/up").read_text() == "abc"
    assert (tree / "var/log").stat().st_mode & 0o7777 == 0o755
    assert (tree / "var/log").stat().st_uid == os.geteuid()
    assert (tree / "var/same").samefile(tree / "var/log")


def test_nothing_lands_outside(tmp_path: Path) -> None:
    tree, refused = tmp_path / "tree", {}
    tree.mkdir()
    archive = packed(
        tmp_path,
        member("../beside"),
        member("a/../../beside"),
        member("root", tarfile.SYMTYPE, "/etc"),
        member("out", tarfile.SYMTYPE, ".."),
        member("hard", tarfile.LNKTYPE, "../files.tar"),
        member("in", tarfile.SYMTYPE, "."),
        member("in/fine"),
        member("null", tarfile.CHRTYPE),
        member("gone", tarfile.LNKTYPE, "never"),
    )
    assert unpack(archive, tree, refused) == ["in", "in/fine"]
    assert set(refused) == {"/../beside", "/a/../../beside", "/root", "/out", "/hard", "/null", "/gone"}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["files.tar", "tree"]
