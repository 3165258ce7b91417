"""Programs on other programs' frames, on the distribution's kernels: AF_XDP sockets, verdicts, and what is lost behind them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.network_seen import Network, test_what_is_lost_on_the_way_to_a_device_and_to_a_cpu
from tests.support.stock_kernel import Watched, watched

__all__ = ["test_what_is_lost_on_the_way_to_a_device_and_to_a_cpu"]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]


@pytest.fixture
def seen(stock_kernel: dict[str, Any]) -> Network:
    return Network(stock_kernel["frames"], may_refuse=False)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_what_an_af_xdp_socket_has_no_place_for(stock_kernel: dict[str, Any], mode: str) -> None:
    notes = watched(stock_kernel, "frames", "xsk").notes[mode]
    run = Watched(notes)
    queue = {"device": "frames", "queue": "0"}
    assert notes["lost"] == {"dropped": 7, "rx_ring_full": 16}
    assert run.grown("xsk_packets_total", result="fill_ring_empty", **queue) == 7
    assert run.grown("xsk_packets_total", result="rx_ring_full", **queue) == 16
    assert run.grown("xsk_packets_total", result="received", **queue) == 4
    assert run.grown("xsk_packets_total") == 27
    assert run.grown("xsk_lost_total") == 0


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_the_verdicts_of_an_xdp_program_that_comes_later(stock_kernel: dict[str, Any], mode: str) -> None:
    """Once in the driver, once above it; the second one is another program in the first one's place."""
    run = Watched(watched(stock_kernel, "frames", "xdp_verdicts").notes[mode])
    verdicts = {"aborted": 5, "drop": 6, "invalid": 8}
    for action, count in verdicts.items():
        assert run.grown("xdp_verdicts_total", device="frames", action=action) == count
    assert run.grown("xdp_verdicts_total", device="frames", action="pass") >= 7
    assert run.grown("xdp_verdicts_lost_total") == 0


def test_counts_outlive_the_program_that_was_watched(stock_kernel: dict[str, Any]) -> None:
    notes = watched(stock_kernel, "frames", "xdp_verdicts").notes
    name = 'ebpf_exporter_xdp_verdicts_total{device="frames",action="drop"}'
    assert notes["native"]["after"][name] == notes["generic"]["before"][name]
