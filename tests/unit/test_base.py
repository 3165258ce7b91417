"""The doors to the machine."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

import pytest

from g5kdeploy.base import files, folders
from g5kdeploy.base.clock import Clock
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.base.process import CommandFailed, run
from g5kdeploy.base.text import clean, human_bytes, human_seconds, redact, to_paste


def soon(seconds: float = 20) -> Deadline:
    return Deadline.after(seconds, "the test's program")


def test_a_program_says_its_words_and_status() -> None:
    done = run([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr)"], soon())
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_input_is_fed_and_lines_are_handed_on_as_they_come() -> None:
    lines: list[str] = []
    done = run(["cat"], soon(), input="a\nb\n", out=lines.append)
    assert done.stdout == "a\nb\n"
    assert lines == ["a", "b"]


def test_a_failure_tells_the_command_the_status_and_the_last_words() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo it broke >&2; exit 3"], soon())
    assert caught.value.done.returncode == 3
    assert "status 3" in str(caught.value)
    assert "it broke" in str(caught.value)


def test_a_missing_program_is_status_127() -> None:
    assert run(["no-such-program"], soon(), check=False).returncode == 127


def test_secrets_do_not_show() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo hunter2; exit 1", "hunter2"], soon(), secrets=["hunter2"])
    assert "hunter2" not in str(caught.value) + caught.value.done.stdout + " ".join(caught.value.done.argv)


def test_at_the_deadline_the_whole_group_is_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(DeadlinePassed, match="the test's program"):
        run(["sh", "-c", f"sleep 60 & echo $! > {pid}; wait"], soon(1))
    child = int(pid.read_text())
    for _ in range(50):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent's deadline")


def test_a_deadline_is_never_later_than_the_one_it_is_part_of() -> None:
    now = [100.0]
    clock = Clock(monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    whole = Deadline.after(10, "the whole", clock)
    part = whole.within(60, "the part")
    assert part.remaining() == 10
    assert part.what == "the part"
    for _ in range(3):
        part.sleep(4, "last seen")
    with pytest.raises(DeadlinePassed, match=r"gave up on the part.*last seen"):
        part.sleep(4, "last seen")


def test_a_file_is_old_or_new(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    files.write(path, "one")
    files.write(path, "two", mode=0o600)
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_home_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS without its lock service."""

    def flock(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with pytest.raises(Problem, match="the run cannot be locked") as caught, files.lock(tmp_path / "lock", "the run"):
        pass
    assert "G5KDEPLOY_HOME" in caught.value.hint


def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    with (
        files.lock(tmp_path / "lock", "the run"),
        pytest.raises(files.Held, match=f"process {os.getpid()}"),
        files.lock(tmp_path / "lock", "the run"),
    ):
        pass


def test_a_lock_holds_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as here:
        here.setattr(files.os, "write", full)
        with (
            files.lock(tmp_path / "lock", "the run"),
            pytest.raises(files.Held, match="by another process"),
            files.lock(tmp_path / "lock", "the run"),
        ):
            pass


def test_one_variable_moves_every_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("G5KDEPLOY_HOME", str(tmp_path))
    assert {folders.config(), folders.state(), folders.cache()} == {tmp_path / n for n in ("config", "state", "cache")}


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.31, "0.3 s"), (12, "12 s"), (200, "3 min 20 s"), (60, "1 min"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert human_seconds(seconds) == said


def test_sizes() -> None:
    assert [human_bytes(n) for n in (512, 17 * 1024, 1.5 * 1024**2)] == ["512 B", "17 KiB", "1.5 MiB"]


def test_hints_can_be_pasted() -> None:
    assert to_paste("push", Path("/home/my exp/experiment.yaml")) == "g5kdeploy push '/home/my exp/experiment.yaml'"


def test_foreign_text_cannot_move_the_cursor() -> None:
    assert clean("a\x1b[2Jb\x1b]0;title\x07c\rd\n") == "abc\nd\n"
    assert redact("user:pw@host", ["pw", ""]) == "user:***@host"
