"""The programs on the network, on the distribution's kernels: all of them load, and their counts are exact."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.network_seen import (
    Network,
    test_a_device_that_is_not_there_is_told_with_those_that_are,
    test_an_exporter_that_is_killed_leaves_no_xdp_program,
    test_how_connecting_ended,
    test_how_the_kernel_comes_to_its_packets,
    test_multicast_by_group,
    test_packets_that_are_dropped,
    test_round_trips_and_what_nobody_answered,
    test_verdicts_that_cannot_be_carried_out,
    test_xdp_counts_and_drops_on_the_device_that_was_chosen,
)
from tests.support.stock_kernel import version

__all__ = [
    "test_a_device_that_is_not_there_is_told_with_those_that_are",
    "test_an_exporter_that_is_killed_leaves_no_xdp_program",
    "test_how_connecting_ended",
    "test_how_the_kernel_comes_to_its_packets",
    "test_multicast_by_group",
    "test_packets_that_are_dropped",
    "test_round_trips_and_what_nobody_answered",
    "test_verdicts_that_cannot_be_carried_out",
    "test_xdp_counts_and_drops_on_the_device_that_was_chosen",
]

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]


@pytest.fixture
def seen(stock_kernel: dict[str, Any]) -> Network:
    return Network(stock_kernel["network"], may_refuse=False)


def test_what_a_slow_and_lossy_device_does_to_a_connection(seen: Network) -> None:
    """Every packet to the peer takes 40 ms: no round trip and no connect can be quicker."""
    notes, samples = seen.of("tcp", "loss")
    port = str(notes["port"])
    assert samples.grown("tcp_retransmits_total", port=port, state="established") >= 2
    below = 2**25 / 1e9  # 34 ms
    for histogram in ("tcp_rtt_seconds", "tcp_connect_seconds"):
        assert samples.mean(histogram, port=port) >= 0.039
        buckets = {name: v for name, v in notes["after"].items() if f"{histogram}_bucket" in name and port in name}
        quick = [v for name, v in buckets.items() if float(name.split('le="')[1].split('"')[0]) <= below]
        assert quick and not any(quick)


def test_a_listener_whose_queue_is_full_and_a_receiver_that_does_not_read(seen: Network) -> None:
    notes, samples = seen.of("tcp_queues", "tcp_queues")
    port, slow = map(str, notes["ports"])
    assert samples.grown("tcp_listen_queue_full_total", port=port, queue="accept", segment="syn") >= 1
    assert samples.grown("tcp_listen_queue_full_total", port=slow) == 0
    assert samples.grown("tcp_accept_queue_length_bucket", port=port, le="0.0") == 1
    assert samples.grown("tcp_accept_queue_length_bucket", port=port, le="1.0") == 2
    assert samples.grown("tcp_accept_queue_length_count", port=port) >= 3
    assert samples.grown("tcp_syn_queue_length_count", port=port) >= 3
    assert samples.grown("tcp_syn_queue_length_bucket", port=slow, le="0.0") == 1
    assert samples.grown("tcp_receive_window_bytes_bucket", port=slow, le="0.0") >= 1
    assert samples.mean("tcp_receive_window_bytes", port=slow) > 0
    assert samples.grown("tcp_queues_lost_total") == 0


def test_where_packets_are_dropped_and_a_raw_socket_that_nobody_reads(seen: Network) -> None:
    notes, samples = seen.of("socket_drops", "drops")
    assert samples.grown("packet_drops_total", location="__udp4_lib_rcv", reason="no_socket") >= 10
    lost = notes["lost"]["raw"]
    assert 0 < lost < 200
    told = samples.grown("socket_drops_total", port="0", protocol="253", what="receive_buffer")
    unclaimed = samples.grown("packet_drops_total", reason="ip_noproto")
    # Since 6.9 a raw socket that is full is passed by in silence, and the packet is one that nobody wanted.
    assert (told, unclaimed) == ((0, lost) if version(seen.scenarios["kernel"]) >= (6, 9) else (lost, 0))


def test_who_joins_and_leaves_groups(seen: Network) -> None:
    _, samples = seen.of("igmp", "igmp")
    both = {"device": "near", "group": "239.77.1.2"}
    assert samples.grown("igmp_joins_total", **both) == 2
    assert samples.grown("igmp_leaves_total", **both) == 2
    source = {"device": "near", "group": "232.77.1.2"}
    assert samples.grown("igmp_joins_total", **source) == 1
    assert samples.grown("igmp_leaves_total", **source) == 1
    assert samples.grown("igmp_joins_total", device="extra", group="224.0.0.1") == 1
    assert samples.grown("igmp_lost_total") == 0
