"""The same work on many nodes, their answers folded, and the state of each."""

from __future__ import annotations

import threading

import pytest

from g5kdeploy.base.problem import Problem
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.node import (
    Result,
    Stage,
    Unreachable,
    expand,
    fan_out,
    fold,
    merge,
)


def test_each_node_has_its_answer_or_its_problem_in_order() -> None:
    def work(name: str) -> str:
        if name == "b":
            raise Unreachable("b is away")
        return name.upper()

    answers = fan_out(["c", "b", "a", "c"], work)
    assert list(answers) == ["c", "b", "a"]
    assert (answers["c"], answers["a"]) == ("C", "A")
    assert isinstance(answers["b"], Problem)
    assert fan_out([], work) == {}


def test_a_set_that_no_testbed_has_is_not_unfolded() -> None:
    with pytest.raises(InvalidUse, match="no set of nodes"):
        expand("vm-[1-99999999]")
    with pytest.raises(InvalidUse, match="no set of nodes"):
        expand("vm-[1-9999]-[1-9999]")
    assert len(expand("vm-[1-900]")) == 900


def test_a_bug_is_not_hidden_among_problems() -> None:
    with pytest.raises(ZeroDivisionError):
        fan_out(["a", "b"], lambda name: 1 // 0)


def test_no_more_than_the_limit_at_once() -> None:
    lock, now, most = threading.Lock(), [0], [0]
    full = threading.Event()

    def work(name: str) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == 3:
                full.set()
        assert full.wait(60)
        with lock:
            now[0] -= 1

    fan_out([str(i) for i in range(12)], work, limit=3)
    assert most == [3]


def test_names_fold_and_unfold() -> None:
    names = [f"vm-{i}.lab.grid5000.fr" for i in (1, 2, 3, 5)]
    assert fold(names) == "vm-[1-3,5].lab.grid5000.fr"
    assert expand("vm-[1-3,5].lab.grid5000.fr") == names
    assert expand("@all") == ["@all"]  # no groups of ClusterShell's own configuration
    with pytest.raises(InvalidUse, match="no set of nodes"):
        expand("vm-[1-")


def test_equal_answers_are_merged_the_largest_group_first() -> None:
    def said(text: str, status: int = 0) -> Result:
        return Result(text, "", status, 1.0)

    results = {"n1": said("x"), "n2": said("y"), "n3": said("x"), "n10": said("x", 1)}
    merged = merge({**results, **{name: Unreachable(f"{name} is away") for name in ("n4", "n5")}})
    assert [(group.nodes, group.stdout, group.status, group.problem) for group in merged] == [
        ("n[1,3]", "x", 0, ""),
        ("n[4-5]", "", None, "n[4-5] is away"),
        ("n10", "x", 1, ""),
        ("n2", "y", 0, ""),
    ]


def test_a_node_that_is_lost_has_come_nowhere() -> None:
    came = [stage for stage in Stage if Stage.BOOTED.reached(stage)]
    assert came == [Stage.RESERVED, Stage.DEPLOYED, Stage.BOOTED]
    assert not any(Stage.LOST.reached(stage) for stage in Stage)
