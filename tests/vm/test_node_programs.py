"""The programs on the distribution's kernel: each one's events made to happen, and found in what the exporter served."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stock_kernel import Watched, watched

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]


@pytest.fixture
def seen(stock_kernel: dict[str, Any], request: pytest.FixtureRequest) -> Watched:
    """What the scenario saw that has the test's name."""
    return watched(stock_kernel, "node", request.node.name.removeprefix("test_"))


def test_statx(seen: Watched) -> None:
    assert seen.grown("statx_calls_total", cgroup="/sys/fs/cgroup/statx") >= 5
    assert 0 < seen.mean("statx_latency_seconds", cgroup="/sys/fs/cgroup/statx") < 60
    assert seen.grown("statx_lost_total") == 0
