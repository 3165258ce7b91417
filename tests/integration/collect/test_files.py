"""Files, journal and console that come from a node."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest

from g5kdeploy.collect import (
    fetch_console,
    fetch_files,
    fetch_journal,
)
from g5kdeploy.node import Remote
from g5kdeploy.node.problems import Overflow
from tests.support.collecting import Machine, soon
from tests.support.sshd import SSHD

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd")


def test_files_come_under_their_own_paths(node: Remote, tmp_path: Path) -> None:
    out = tmp_path / "out dir"
    (out / "deep").mkdir(parents=True)
    (out / "a.json").write_text("{}")
    (out / "b.json").write_bytes(b"\0" * 1000)
    (out / "deep" / "c'd.txt").write_text("c")
    (out / "away").symlink_to("/etc/passwd")
    (out / "near").symlink_to("a.json")
    got = fetch_files(
        node, [f"{out}/*.json", f"{out}/deep", f"{out}/away", f"{out}/near", "/nothing/*.x"], tmp_path / "to", soon()
    )
    inside = str(out).lstrip("/")
    assert set(got.came) == {f"{inside}/{name}" for name in ("a.json", "b.json", "deep/c'd.txt", "near")}
    assert (tmp_path / "to" / inside / "b.json").read_bytes() == b"\0" * 1000
    assert (tmp_path / "to" / inside / "deep" / "c'd.txt").read_text() == "c"
    assert got.missing["/nothing/*.x"] == "nothing there"
    assert "away" in " ".join(got.missing)
    assert [path.name for path in (tmp_path / "to").iterdir()] == [inside.split("/")[0]]  # nothing left aside


def test_what_came_earlier_is_not_lost_to_what_comes_now(node: Remote, tmp_path: Path) -> None:
    out, to = tmp_path / "out", tmp_path / "to"
    inside = to / str(out).lstrip("/")

    def fetch(**files: str | None) -> list[str]:
        """A new folder with files (None: empty folders), brought as a whole and once more by name."""
        shutil.rmtree(out, ignore_errors=True)
        for name, text in files.items():
            path = out / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if text is None else path.write_text(text)
        got = fetch_files(node, [str(out), f"{out}/*"], to, soon())
        assert not got.missing
        return [str(Path("/", name).relative_to(out)) for name in got.came]

    assert fetch(a="file", b__c="below", d="same") == ["a", "b/c", "d"]
    assert fetch(a__x="below", b="file", d="new") == ["a/x", "b", "d"]
    assert fetch(a="file again", e=None) == ["a"]
    assert {str(path.relative_to(inside)): path.read_text() for path in inside.rglob("*") if path.is_file()} == {
        "a": "file again",
        "a.earlier": "file",
        "a.earlier-2/x": "below",
        "b": "file",
        "b.earlier/c": "below",
        "d": "new",
    }


def test_a_link_to_a_folder_and_what_is_behind_it_come(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "out" / "v1").mkdir(parents=True)
    (tmp_path / "out" / "v1" / "result").write_text("1")
    (tmp_path / "out" / "current").symlink_to("v1")
    got = fetch_files(node, [f"{tmp_path}/out", f"{tmp_path}/out/current/result"], tmp_path / "to", soon())
    inside = tmp_path / "to" / str(tmp_path / "out").lstrip("/")
    assert (inside / "current").readlink() == Path("v1")
    assert (inside / "current" / "result").read_text() == (inside / "v1" / "result").read_text() == "1"
    assert not got.missing


def test_too_many_bytes_do_not_come(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name, size in {"big": 500_000, "small": 50_000, "rest": 60_000}.items():
        (tmp_path / "out" / name).write_bytes(os.urandom(size))
    asked = [f"{tmp_path}/out/{name}" for name in ("big", "small", "rest")]
    got = fetch_files(node, asked, tmp_path / "to", soon(), limit=100_000)
    assert [Path(name).name for name in got.came] == ["small"]
    assert got.missing == {
        asked[0]: "488 KiB, more than the 98 KiB that may still come",
        asked[2]: "59 KiB, more than the 49 KiB that may still come",
    }
    (tmp_path / "out" / "many").mkdir()
    for number in range(200):  # nothing in them, and still too much for tar
        (tmp_path / "out" / "many" / str(number)).touch()
    with pytest.raises(Overflow, match="more than"):
        fetch_files(node, [f"{tmp_path}/out/many"], tmp_path / "other", soon(), limit=100_000)
    assert list((tmp_path / "other").iterdir()) == []
    assert fetch_files(node, [], tmp_path / "to", soon()).came == ()


def test_journal_and_console(machine: Machine, node: Remote, tmp_path: Path) -> None:
    journalctl = machine.bin / "journalctl"
    journalctl.write_text('#!/bin/sh\necho "$@"\n')
    journalctl.chmod(0o755)
    size = fetch_journal(node, tmp_path / "nodes" / "n1" / "journal.gz", soon())
    packed = (tmp_path / "nodes" / "n1" / "journal.gz").read_bytes()
    assert len(packed) == size
    assert gzip.decompress(packed) == b"--boot --no-pager --quiet --output=export\n"
    fetch_journal(node, tmp_path / "journal", soon(), form="json")
    assert "--output=json" in (tmp_path / "journal").read_text()
    fetch_console(node, tmp_path / "console", soon())
    assert "--dmesg" in (tmp_path / "console").read_text()
