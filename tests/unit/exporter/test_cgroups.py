from __future__ import annotations

import time
from pathlib import Path

import pytest

from g5kdeploy.exporter.cgroups import Cgroups, root


def until(found: Cgroups, number: int) -> str | None:
    """The listening thread's answer, waited for."""
    end = time.monotonic() + 60
    while (path := found.path(number)) is None and time.monotonic() < end:
        time.sleep(0.01)
    return path


def test_cgroups_made_before_and_after_are_known(tmp_path: Path) -> None:
    before = tmp_path / "a" / "b"
    before.mkdir(parents=True)
    found = Cgroups(tmp_path)
    found.watch()
    assert found.path(before.stat().st_ino) == str(before)
    after = tmp_path / "a" / "c" / "d"
    after.mkdir(parents=True)
    assert until(found, after.stat().st_ino) == str(after)


def test_a_cgroup_that_is_gone_keeps_its_name(tmp_path: Path) -> None:
    found = Cgroups(tmp_path)
    found.watch()
    folder = tmp_path / "short"
    folder.mkdir()
    number = folder.stat().st_ino
    assert until(found, number) == str(folder)
    folder.rmdir()
    assert found.path(number) == str(folder)


def test_without_watching_a_walk_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    found = Cgroups(tmp_path)
    assert found.path((tmp_path / "a").stat().st_ino) == str(tmp_path / "a")
    assert found.path(2**60) is None


def test_only_so_many_names_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g5kdeploy.exporter.cgroups._MOST_GONE", 10)
    for i in range(30):
        (tmp_path / str(i)).mkdir()
    found = Cgroups(tmp_path)
    found.watch()
    known = [i for i in range(30) if (tmp_path / str(i)).stat().st_ino in found._paths]
    assert len(known) <= 10


def test_where_cgroup_v2_is(tmp_path: Path) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(
        "30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "31 30 0:27 / /sys/fs/cgroup/with\\040space rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
    )
    assert root(file) == Path("/sys/fs/cgroup/with space")
    file.write_text("30 1 0:26 / / rw - ext4 /dev/vda rw\n")
    assert root(file) is None
