"""What must have been seen of the network scenarios (tests/vm/guest/network.py; one is of frames.py), on whatever kernel they ran.

Tests, to be imported where there is a fixture `seen` of this kind. Ports and devices are the scenarios' own; what has neither may
grow by what else the machine does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.stock_kernel import Watched

MODES = pytest.mark.parametrize("mode", ["native", "generic"])
FRAME = 14 + 20 + 8 + 100
"""Bytes of the scenarios' datagrams with their headers."""


@dataclass(frozen=True)
class Network:
    """What the scenarios saw. Where a kernel may refuse programs, tests of those are skipped."""

    scenarios: dict[str, Any]
    may_refuse: bool

    def of(self, program: str, scenario: str, part: str = "") -> tuple[dict[str, Any], Watched]:
        """The notes of a scenario, or of a part of it, and its samples."""
        assert "error" not in self.scenarios, self.scenarios["error"]
        notes = self.scenarios[scenario]
        assert "error" not in notes, notes["error"]
        if "missing" in notes and self.may_refuse:
            pytest.skip(f"this kernel does not have or take {notes['missing']}")
        assert "missing" not in notes, notes["missing"]
        notes = notes[part] if part else notes
        reasons = [name for name in notes["after"] if name.startswith(f'g5k_bpf_failure_info{{config="{program}"')]
        assert notes["after"][f'g5k_bpf_program_loaded{{config="{program}"}}'], reasons
        return notes, Watched(notes)

    def lost_nothing(self, samples: Watched, *programs: str) -> None:
        """That these counted everything; where others are at work, too, nobody knows how much that is."""
        if not self.may_refuse:
            assert sum(samples.grown(f"{program}_lost_total") for program in programs) == 0


@MODES
def test_xdp_counts_and_drops_on_the_device_that_was_chosen(seen: Network, mode: str) -> None:
    notes, samples = seen.of("xdp", "xdp", mode)
    assert notes["after"][f'g5k_bpf_xdp_info{{config="xdp",device="near",mode="{mode}",program="xdp_count"}}'] == 1
    group = {"device": "near", "group": "239.77.1.2"}
    assert samples.grown("xdp_group_packets_total", **group) == 60
    assert samples.grown("xdp_group_bytes_total", **group) == 60 * FRAME
    assert samples.grown("xdp_group_packets_total", device="near", group="ff05::77:1") == notes["six"]
    assert samples.grown("xdp_group_bytes_total", device="near", group="ff05::77:1") == notes["six"] * (FRAME + 20)
    assert samples.grown("xdp_packets_total", action="drop") == 30
    assert samples.grown("xdp_bytes_total", action="drop") == 30 * FRAME
    assert samples.grown("xdp_packets_total", action="pass") >= 60 + notes["six"]
    assert samples.grown("xdp_lost_total") == 0


@MODES
def test_an_exporter_that_is_killed_leaves_no_xdp_program(seen: Network, mode: str) -> None:
    notes, _ = seen.of("xdp", "xdp", mode)
    assert notes["device"]["prog"]["name"] == "xdp_count"
    assert notes["status"] == -9
    assert notes["device_later"] == {}


def test_a_device_that_is_not_there_is_told_with_those_that_are(seen: Network) -> None:
    notes, _ = seen.of("xdp", "xdp", "absent")
    assert "there is no network device nowhere; there are: lo, " in notes["log"]
    assert not [sample for sample in notes["after"] if sample.startswith("g5k_bpf_xdp_info{")]


@MODES
def test_verdicts_that_cannot_be_carried_out(seen: Network, mode: str) -> None:
    _, broken = seen.of("xdp_broken", "xdp", mode)
    assert [broken.grown("xdp_broken_total", verdict=str(number)) for number in (1, 2, 3)] == [11, 12, 13]
    _, samples = seen.of("xdp_errors", "xdp", f"{mode}_errors")
    assert samples.grown("xdp_exceptions_total", device="weak", action="aborted") == 11
    assert samples.grown("xdp_exceptions_total", device="weak", action="invalid") == 12
    assert samples.grown("xdp_redirect_errors_total", device="weak", errno="EINVAL") == 13
    seen.lost_nothing(samples, "xdp_errors")


def test_what_is_lost_on_the_way_to_a_device_and_to_a_cpu(seen: Network) -> None:
    _, samples = seen.of("xdp_errors", "xdp_errors")
    assert samples.grown("xdp_devmap_drops_total", **{"from": "frames", "to": "unread"}) == 9
    assert samples.grown("xdp_cpumap_drops_total", to_cpu="0") >= 1
    seen.lost_nothing(samples, "xdp_errors")


def test_how_connecting_ended(seen: Network) -> None:
    notes, samples = seen.of("tcp", "tcp")
    port, closed, silent = (str(notes[name]) for name in ("port", "closed", "silent"))
    assert samples.grown("tcp_connects_total", port=port, result="established") == 5
    assert samples.grown("tcp_connects_total", port=closed, result="refused") == 3
    assert samples.grown("tcp_connects_total", port=silent, result="closed") == 1
    assert samples.grown("tcp_connect_seconds_count", port=port) == 5
    assert 0 < samples.mean("tcp_connect_seconds", port=port) < 60
    assert samples.grown("tcp_connect_seconds_count", port=closed) == 0
    seen.lost_nothing(samples, "tcp")


def test_round_trips_and_what_nobody_answered(seen: Network) -> None:
    notes, samples = seen.of("tcp", "tcp")
    assert samples.grown("tcp_rtt_seconds_count", port=str(notes["port"])) >= 100
    assert 0 < samples.mean("tcp_rtt_seconds", port=str(notes["port"])) < 60
    assert samples.grown("tcp_retransmits_total", port=str(notes["silent"]), state="syn_sent") >= 1


def test_packets_that_are_dropped(seen: Network) -> None:
    notes, samples = seen.of("packet_drops", "drops")
    lost = notes["lost"]["udp"]
    assert 0 < lost < 200
    assert samples.grown("udp_drops_total", port=str(notes["nobody"]), reason="no_socket") == 10
    assert samples.grown("udp_drops_total", port=str(notes["port"]), reason="socket_rcvbuff") == lost
    assert samples.grown("socket_drops_total", port=str(notes["port"]), protocol="udp", what="receive_buffer") == lost
    assert samples.grown("packet_drops_total", reason="no_socket") >= 10
    assert samples.grown("packet_drops_total", reason="socket_rcvbuff") >= lost
    seen.lost_nothing(samples, "packet_drops", "socket_drops")


def test_multicast_by_group(seen: Network) -> None:
    notes, samples = seen.of("multicast", "multicast")
    four = {"device": "near", "group": "239.77.1.2"}
    assert samples.grown("multicast_packets_total", direction="receive", **four) == 40
    assert samples.grown("multicast_bytes_total", direction="receive", **four) == 40 * (20 + 8 + 100)
    assert samples.grown("multicast_packets_total", direction="transmit", **four) == 30
    assert samples.grown("multicast_bytes_total", direction="transmit", **four) == 30 * (20 + 8 + 10)
    six = {"device": "near", "direction": "receive", "group": "ff05::77:1"}
    assert samples.grown("multicast_packets_total", **six) == notes["six"]
    assert samples.grown("multicast_bytes_total", **six) == notes["six"] * (40 + 8 + 100)
    seen.lost_nothing(samples, "multicast")


def test_how_the_kernel_comes_to_its_packets(seen: Network) -> None:
    notes, samples = seen.of("net_rx", "net_rx")
    backlog = {"device": "unknown:0"}
    assert samples.grown("napi_poll_packets_sum", **backlog) >= 200
    assert samples.grown("napi_poll_packets_count", **backlog) > 0
    if notes["own"]:
        assert samples.grown("napi_polls_total", result="exhausted", **backlog) > 0
    for histogram in ("net_rx_wait_seconds", "net_rx_run_seconds"):
        assert 0 < samples.mean(histogram) < 60
    seen.lost_nothing(samples, "net_rx")
