"""The phase check: how much time a test script is given."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from g5kdeploy import vmtest
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.workflow import checking


@pytest.mark.parametrize("timeout", [5, 600])
def test_a_script_has_all_of_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout: int) -> None:
    given: list[float] = []

    class Supervisor:
        def __init__(self, plan: Any, *_: object) -> None:
            given.append(plan.seconds)

        def run(self, *_: object) -> vmtest.Verdict:
            return vmtest.Verdict((), 0.0, False, ())

    monkeypatch.setattr("g5kdeploy.vmtest.on_nodes.Supervisor", Supervisor)
    session = SimpleNamespace(
        experiment=SimpleNamespace(test_script=tmp_path / "test.py", check=SimpleNamespace(timeout=timeout)),
        nodes=lambda **_: {"vm-1.lab.grid5000.fr": "worker"},
        reach=SimpleNamespace(home=tmp_path, user="u", known_hosts=tmp_path / "known", name_of=str),
        run=SimpleNamespace(folder=tmp_path),
        deadline=Deadline.after,
        emit=None,
    )
    checking.check(cast("Any", session))
    assert given == [pytest.approx(timeout, abs=2)]
