"""Files and folders to nodes and back: whole, beside what is there, and only what belongs there."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

import pytest

from g5kdeploy.events.failure import Failure, InvalidUse
from g5kdeploy.node import Remote
from g5kdeploy.node.copying import Copied, Parcel, bring, pattern, send
from tests.support.reaching import soon


def tree(folder: Path) -> Path:
    """A folder with what folders have: names of all kinds, a program, an empty folder, a link."""
    (folder / "deep er" / "er").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "deep er" / "er" / "it's").write_bytes(os.urandom(100_001))
    (folder / "deep er" / ".hidden").write_text("h")
    (folder / "program").write_text("#!/bin/sh\n")
    (folder / "program").chmod(0o755)
    (folder / "link").symlink_to("deep er/.hidden")
    (folder / ("long" * 40)).write_text("l")
    return folder


def shape(folder: Path) -> dict[str, object]:
    """What a folder holds, to be compared."""
    return {
        str(path.relative_to(folder)): path.readlink()
        if path.is_symlink()
        else (path.stat().st_mode & 0o777, path.read_bytes())
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def test_a_folder_goes_there_and_back(node: Remote, tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    sent = send(node, Parcel([source]), f"{tmp_path}/far/copy", soon())
    assert shape(tmp_path / "far" / "copy") == shape(source)
    assert bring(node, [f"{tmp_path}/far/copy"], tmp_path / "back", soon()) == sent
    assert shape(tmp_path / "back") == shape(source)
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["copy"]  # nothing is left beside it
    assert sent == Copied(5, 100_001 + 1 + 10 + 1)


def test_it_goes_into_a_folder_or_has_the_name_given(node: Remote, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("1")
    (tmp_path / "there").mkdir()
    for target in ("there", "new/", "there/other"):
        send(node, Parcel([file]), f"{tmp_path}/{target}", soon())
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["file", "other"]
    assert (tmp_path / "new" / "file").read_text() == "1"
    send(node, Parcel([file, tree(tmp_path / "source")]), f"{tmp_path}/both", soon())
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["file", "source"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a b", "'./a b'"),
        ("", "./"),
        ("~", "./"),
        ("~/x", "./x"),
        ("-rf", "./-rf"),
        ("/a*", "/a*"),
        ("/$(x)", "'/$(x)'"),
    ],
)
def test_a_path_that_is_not_absolute_is_the_homes(path: str, words: str) -> None:
    assert shlex.split(pattern(path)) == shlex.split(words)


@pytest.mark.parametrize("outward", [True, False])
def test_what_a_folder_holds_besides_stays(node: Remote, tmp_path: Path, outward: bool) -> None:
    source = tree(tmp_path / "source")
    there = tmp_path / "there" / "source"
    (there / "deep er").mkdir(parents=True)
    (there / "mine").write_text("mine")
    (there / "deep er" / ".hidden").write_text("old")
    before = shape(source)
    if outward:
        send(node, Parcel([source]), f"{tmp_path}/there", soon())
    else:
        bring(node, [str(source)], tmp_path / "there", soon())
    assert shape(there) == {**before, "mine": (0o644, b"mine")}


def test_a_file_is_no_folder_and_a_folder_no_file(node: Remote, tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "source").write_text("a file")
    with pytest.raises(Failure, match=r"could not be written: .*source"):
        send(node, Parcel([source]), f"{tmp_path}/there/", soon())
    with pytest.raises(Failure, match="cannot be written"):
        bring(node, [str(source)], tmp_path / "there", soon())
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["source"]
    assert (tmp_path / "there" / "source").read_text() == "a file"


def test_nothing_takes_a_devices_place(node: Remote, tmp_path: Path) -> None:
    source, device = tmp_path / "file", tmp_path / "device"
    source.write_text("1")
    os.mkfifo(device)
    with pytest.raises(Failure, match="neither file nor folder"):
        send(node, Parcel([source]), str(device), soon())
    with pytest.raises(Failure, match="neither file nor folder"):
        bring(node, [str(source)], device, soon())
    assert stat.S_ISFIFO(device.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_what_has_its_place_comes_beside_what_has_not(node: Remote, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    (tmp_path / "there" / "source" / "b" / "mine").mkdir(parents=True)
    with pytest.raises(Failure, match=r"1 of 3 did not come: .*/b \(cannot be written: Is a directory\)"):
        bring(node, [str(tmp_path / "source")], tmp_path / "there", soon())
    assert sorted(str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("*")) == [
        "source", "source/a", "source/b", "source/b/mine", "source/c",
    ]  # fmt: skip


def test_two_files_of_one_name_are_not_made_one(node: Remote, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "log").write_text(folder)
    with pytest.raises(Failure, match="log is the name of two sources"):
        bring(node, [f"{tmp_path}/*/log"], tmp_path / "back", soon(), into=True)
    assert list((tmp_path / "back").iterdir()) == []
    bring(node, [f"{tmp_path}/one/log", f"{tmp_path}/one/*"], tmp_path / "back", soon(), into=True)  # one file, twice
    assert (tmp_path / "back" / "log").read_text() == "one"


def test_a_target_that_cannot_be_written_is_told(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    with pytest.raises(Failure, match=r"cannot be made or written to: (Not a directory|File exists)"):
        bring(node, [f"{tmp_path}/file"], tmp_path / "file" / "below", soon())
    with pytest.raises(Failure, match="cannot be made or written to: File name too long"):
        bring(node, [f"{tmp_path}/file"], tmp_path / ("x" * 300), soon(), into=True)


def test_an_archive_that_was_cut_leaves_nothing(node: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tree(tmp_path / "source")
    parcel = Parcel([source])
    blocks = list(parcel._blocks())
    monkeypatch.setattr(parcel, "_blocks", lambda: iter(blocks[:-2]))  # at the border of a member: tar sees nothing
    with pytest.raises(Failure, match="not all of it arrived"):
        send(node, parcel, f"{tmp_path}/far/copy", soon())
    assert list((tmp_path / "far").iterdir()) == []


def test_a_file_that_became_shorter_is_not_half_sent(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    parcel = Parcel([tmp_path / "file"])
    (tmp_path / "file").write_bytes(b"x" * 50_000)
    with pytest.raises(Failure, match=r"could not be written: .*Unexpected EOF"):
        send(node, parcel, f"{tmp_path}/there", soon())
    assert not (tmp_path / "there").exists()


def test_patterns_bring_several(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("a.log", "b c.log", "other"):
        (tmp_path / "logs" / name).write_text(name)
    (tmp_path / "logs" / "newest.log").symlink_to("b c.log")
    copied = bring(node, [f"{tmp_path}/logs/*.log"], tmp_path / "back", soon())
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["a.log", "b c.log"]
    assert copied.files >= 2
    with pytest.raises(Failure, match=r"could not be read: .*nothing there"):
        bring(node, [f"{tmp_path}/logs/*.txt"], tmp_path / "none", soon())
    assert not (tmp_path / "none").exists()


def test_what_leads_out_of_the_tree_does_not_come(node: Remote, tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    (source / "out").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    with pytest.raises(Failure, match=r"2 of 7 did not come: .*pipe.*neither file.*a link to"):
        bring(node, [str(source)], tmp_path / "back", soon())
    assert not (tmp_path / "back" / "out").is_symlink()
    assert stat.S_ISREG((tmp_path / "back" / "program").stat().st_mode)


def test_a_source_that_cannot_be_read_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "one").mkdir()
    for sources, said in (
        (["absent"], "No such file"),
        (["pipe"], "no file, folder or link"),
        (["one", "one"], "two sources"),
    ):
        with pytest.raises(InvalidUse, match=said):
            Parcel([tmp_path / name for name in sources])
