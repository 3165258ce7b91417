"""Workloads on a real SSH server, with a stand-in for its systemd."""

from __future__ import annotations

from pathlib import Path

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.collect import (
    Outcome,
    Workload,
    follow,
    start_workload,
    stop_workload,
)
from g5kdeploy.collect.units import NotStarted
from g5kdeploy.node import Remote, fan_out
from tests.support.collecting import LONG, Machine, named, soon, until
from tests.support.sshd import SSHD

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd")


def test_a_workload_runs_detached_and_is_followed(node: Remote, base: str, request: pytest.FixtureRequest) -> None:
    command = "echo \"$WORD\"; echo oops >&2; printf 'no newline'; pwd > where; exit 3"
    workload = Workload(named(request), command, LONG, {"WORD": "it's $HOME"}, base=base)
    lines: list[str] = []
    assert start_workload(node, workload, soon()) is True
    result = follow(node, workload, soon(), lines.append)
    assert (result.outcome, result.status) == (Outcome.FAILED, 3)
    assert result.ended >= result.started > 1e9
    assert sorted(lines) == ["it's $HOME", "no newline", "oops"]
    assert Path(workload.unit.folder, "work", "where").read_text().strip() == f"{workload.unit.folder}/work"
    assert start_workload(node, workload, soon()) is False  # it is over, and is not run again
    again: list[str] = []
    assert follow(node, workload, soon(), again.append) == result
    assert sorted(again) == sorted(lines)


def test_a_workload_that_succeeds(node: Remote, base: str, request: pytest.FixtureRequest) -> None:
    workload = Workload(named(request), "true", LONG, base=base)
    start_workload(node, workload, soon())
    assert follow(node, workload, soon()).outcome is Outcome.DONE


def test_a_workload_that_hangs_is_ended_by_its_node(node: Remote, base: str, request: pytest.FixtureRequest) -> None:
    workload = Workload(named(request), "echo began; sleep 1000 & sleep 1000", 0.5, base=base)
    start_workload(node, workload, soon())
    result = follow(node, workload, soon())
    assert (result.outcome, result.status, result.signal) == (Outcome.TIMEOUT, None, "TERM")
    assert "timeout of 0.5 s" in result.detail


def test_a_workload_that_dies_of_a_signal(node: Remote, base: str, request: pytest.FixtureRequest) -> None:
    workload = Workload(named(request), "kill -SEGV $$", LONG, base=base)
    start_workload(node, workload, soon())
    result = follow(node, workload, soon())
    assert (result.outcome, result.signal) == (Outcome.FAILED, "SEGV")


def test_many_starts_at_once_are_one(
    machine: Machine, node: Remote, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    workload = Workload(named(request), f"echo ran >> {tmp_path}/ran", LONG, base=base)
    answers = fan_out([str(i) for i in range(6)], lambda name: start_workload(node, workload, soon()))
    assert sorted(map(bool, answers.values())) == [False] * 5 + [True], answers
    assert follow(node, workload, soon()).outcome is Outcome.DONE
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_client_that_died_is_followed_by_another(
    machine: Machine, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    go = tmp_path / "go"
    command = f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; echo last"
    workload = Workload(named(request), command, LONG, base=base)
    with machine.reach(tmp_path / "known") as first:
        assert start_workload(first.remote("n1", None), workload, soon()) is True
        with pytest.raises(DeadlinePassed):
            follow(first.remote("n1", None), workload, soon(1))
    lines: list[str] = []
    with machine.reach(tmp_path / "known") as second:
        assert start_workload(second.remote("n1", None), workload, soon()) is False
        go.touch()
        assert follow(second.remote("n1", None), workload, soon(), lines.append).outcome is Outcome.DONE
    assert lines == ["first", "last"]


def test_a_workload_is_followed_on_when_there_is_more_time_by_then(
    node: Remote, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    go = tmp_path / "go"
    workload = Workload(
        named(request), f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; echo last", LONG, base=base
    )
    start_workload(node, workload, soon())
    lines: list[str] = []

    def renewed() -> Deadline:
        go.touch()
        return soon()

    assert follow(node, workload, soon(1), lines.append, renewed=renewed).outcome is Outcome.DONE
    assert lines == ["first", "last"]
    go.unlink()
    other = Workload(f"{named(request)}-2", workload.command, LONG, base=base)
    start_workload(node, other, soon())
    with pytest.raises(DeadlinePassed):
        follow(node, other, soon(1), renewed=lambda: soon(0))
    stop_workload(node, other, soon())


def test_no_line_is_lost_or_doubled_when_the_connection_breaks(
    machine: Machine, node: Remote, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    go = tmp_path / "go"
    command = (
        f"for i in 1 2 3; do echo line $i; done; while [ ! -e {go} ]; do sleep 0.05; done; echo half-; echo -n done"
    )
    workload = Workload(named(request), command, LONG, base=base)
    start_workload(node, workload, soon())
    lines: list[str] = []

    def out(line: str) -> None:
        lines.append(line)
        if line == "line 3":
            machine.server.cut()
            go.touch()

    assert follow(node, workload, soon(), out).outcome is Outcome.DONE
    assert lines == ["line 1", "line 2", "line 3", "half-", "done"]


def test_a_workload_is_stopped(node: Remote, base: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    workload = Workload(named(request), f"touch {tmp_path}/began; sleep 1000", LONG, base=base)
    start_workload(node, workload, soon())
    until((tmp_path / "began").exists, "it began")
    stop_workload(node, workload, soon())
    stop_workload(node, workload, soon())
    result = follow(node, workload, soon())
    assert (result.outcome, result.signal) == (Outcome.FAILED, "TERM")


def test_a_workload_whose_node_rebooted_is_lost(node: Remote, base: str, request: pytest.FixtureRequest) -> None:
    workload = Workload(named(request), "true", LONG, base=base)
    assert follow(node, workload, soon()).outcome is Outcome.LOST  # never started
    start_workload(node, workload, soon())
    follow(node, workload, soon())
    folder = Path(workload.unit.folder)
    (folder / "status").unlink()
    assert "left no exit status" in follow(node, workload, soon()).detail
    (folder / "boot").chmod(0o600)
    (folder / "boot").write_text("another\n")
    result = follow(node, workload, soon())
    assert result.outcome is Outcome.LOST
    assert "rebooted" in result.detail
    assert start_workload(node, workload, soon()) is False  # it had begun: not a second time


def test_a_unit_that_systemd_refuses_is_told(
    machine: Machine, node: Remote, base: str, request: pytest.FixtureRequest
) -> None:
    workload = Workload(named(request), "true", LONG, slice="x y --what", base=base)
    bad = workload.unit
    object.__setattr__(bad, "argv", ("--unheard-of",))
    from g5kdeploy.collect import units

    with pytest.raises(NotStarted, match="unheard-of") as caught:
        units.start(node, bad, soon())
    assert "journalctl -u" in caught.value.hint
