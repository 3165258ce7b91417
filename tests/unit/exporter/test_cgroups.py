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


class Follower:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.there: dict[int, str] = {}

    def __call__(self, path: str, number: int, gone: bool) -> None:
        if gone:
            del self.there[number]
        else:
            self.there[number] = path

    def names(self, top: Path) -> set[str]:
        return {str(Path(path).relative_to(top)) for path in list(self.there.values())}

    def wait(self, top: Path, names: set[str]) -> None:
        end = time.monotonic() + 60
        while self.names(top) != names and time.monotonic() < end:
            time.sleep(0.01)
        assert self.names(top) == names


@pytest.mark.parametrize("inotify", [True, False])
def test_followers_are_told_of_cgroups_that_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inotify: bool
) -> None:
    """Also by a kernel that gives no watches: then walks find out."""
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    found = Cgroups(top)
    if not inotify:
        monkeypatch.setattr("g5kdeploy.exporter.cgroups._EVERY", 10)
        found._libc = type("None_", (), {"inotify_init1": staticmethod(lambda _: -1)})()
    found.watch()
    one, other = Follower(), Follower()
    end = found.follow(one)
    assert one.names(top) == {".", "a"}
    (top / "a" / "b" / "c").mkdir(parents=True)
    one.wait(top, {".", "a", "a/b", "a/b/c"})
    found.follow(other)
    assert other.names(top) == {".", "a", "a/b", "a/b/c"}
    (top / "a" / "b" / "c").rmdir()
    one.wait(top, {".", "a", "a/b"})
    end()
    (top / "a" / "b").rmdir()
    other.wait(top, {".", "a"})
    assert one.names(top) == {".", "a", "a/b"}
    if inotify:
        assert len(found._watched) == len(found._watches) == 2, "watches go with their cgroups"
