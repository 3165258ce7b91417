"""Commands and files on nodes behind a real gateway."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from g5kdeploy.node import (
    Remote,
    RemoteFailed,
)
from g5kdeploy.node.problems import Overflow
from tests.support.reaching import soon


def test_a_command_says_its_words_and_status(node: Remote) -> None:
    lines: list[str] = []
    result = node.run(
        "printf 'o1\\n\\033[31mo2\\033[0m\\nend'; echo e1 >&2; exit 3", soon(), check=False, out=lines.append
    )
    assert (result.stdout, result.stderr, result.status) == ("o1\n\x1b[31mo2\x1b[0m\nend", "e1\n", 3)
    assert sorted(lines) == ["e1", "end", "o1", "o2"]


def test_a_command_that_fails_is_told(node: Remote) -> None:
    with pytest.raises(RemoteFailed, match="n1: `echo it broke >&2; exit 4` failed with status 4: it broke") as caught:
        node.run("echo it broke >&2; exit 4", soon(), hint="mend it")
    assert caught.value.result.status == 4
    assert caught.value.hint == "mend it"


def test_a_command_killed_by_a_signal_is_no_lost_connection(node: Remote) -> None:
    assert node.run("kill -9 $$", soon(), check=False).status == -1


def test_a_command_may_close_its_output_and_go_on(node: Remote) -> None:
    assert node.run("exec >&- 2>&-; sleep 0.3; exit 5", soon(), check=False).status == 5


def test_input_and_output_are_bytes(node: Remote) -> None:
    data = os.urandom(300_000)
    assert node.run("cat", soon(), input=data).data == data
    assert node.run("cat", soon(), input="text\n").stdout == "text\n"
    assert node.run("head -c 3", soon(), input=data).data == data[:3]  # it ends without reading all
    assert node.run("cat", soon()).data == b""


def test_secrets_do_not_show(node: Remote) -> None:
    lines: list[str] = []
    with pytest.raises(RemoteFailed) as caught:
        node.run("echo hunter2; echo hunter2 >&2; exit 1", soon(), out=lines.append, secrets=["hunter2"])
    result = caught.value.result
    assert "hunter2" not in str(caught.value) + result.stdout + result.stderr + "".join(lines)
    assert lines == ["***", "***"]


def test_a_large_file_goes_there_and_back(node: Remote, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20) * 40)
    there = tmp_path / "there's" / "deep" / "file"
    node.put(source, str(there), soon(), mode=0o640)
    assert there.read_bytes() == source.read_bytes()
    assert there.stat().st_mode & 0o777 == 0o640
    assert list(there.parent.iterdir()) == [there]
    assert node.get(str(there), tmp_path / "back" / "file", soon()) == 40 << 20
    assert (tmp_path / "back" / "file").read_bytes() == source.read_bytes()


def test_a_file_that_cannot_be_written_or_read_is_told(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(RemoteFailed, match="taken"):
        node.put(b"x", f"{tmp_path}/taken/../taken/file/", soon())
    with pytest.raises(RemoteFailed, match="No such file"):
        node.get(str(tmp_path / "absent"), tmp_path / "back", soon())
    assert not (tmp_path / "back").exists()


def test_a_file_above_the_limit_does_not_come(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 5000)
    with pytest.raises(RemoteFailed, match="larger than"):
        node.get(str(tmp_path / "big"), tmp_path / "back", soon(), limit=4999)
    assert node.get(str(tmp_path / "big"), tmp_path / "back", soon(), limit=5000) == 5000
    with pytest.raises(Overflow, match="more than"):
        node.stream("cat /dev/zero", tmp_path / "back", soon(), limit=100_000)
    assert (tmp_path / "back").stat().st_size == 5000  # the old one is still there
    assert node.run("echo on", soon()).stdout == "on\n"
