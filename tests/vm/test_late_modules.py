"""Programs whose kernel module comes after them, on the distribution's kernel."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stock_kernel import watched

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]


@pytest.fixture
def seen(stock_kernel: dict[str, Any]) -> dict[str, Any]:
    """What the scenario saw: samples before the module was loaded, and when both programs had counted."""
    return watched(stock_kernel, "late", "module").notes


@pytest.mark.parametrize(("name", "loads"), [("late_probe", 1), ("late_entry", 0)])
def test_a_program_waits_for_its_module_and_then_counts(seen: dict[str, Any], name: str, loads: int) -> None:
    """A kprobe finds its function when it is attached, an fentry program already when it is loaded."""
    before, after = seen["before"], seen["after"]
    assert before[f'g5k_bpf_program_waiting{{config="{name}"}}'] == 1
    assert before[f'g5k_bpf_program_loaded{{config="{name}"}}'] == loads
    assert after[f'g5k_bpf_program_waiting{{config="{name}"}}'] == 0, seen["log"]
    assert after[f'g5k_bpf_program_loaded{{config="{name}"}}'] == 1
    assert after[f'g5k_bpf_retries_total{{config="{name}"}}'] >= 1
    assert after[f"ebpf_exporter_{name}_total"] > 0
    assert not [sample for sample in after if sample.startswith(f'g5k_bpf_failure_info{{config="{name}"')]
    assert f"{name}: 1 of 1 programs attached, after waiting" in seen["log"]


def test_rights_are_kept_by_one_thread_until_the_module_has_come(seen: dict[str, Any]) -> None:
    assert len(seen["kept_before"]) == 2 and int(seen["kept_before"][0], 16) == 0
    assert [int(bits, 16) for bits in seen["kept_after"]] == [0]
