"""Numbers that stand in two files, a program's source and its YAML, do not come apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from g5kdeploy.exporter.config import Config, Counter, read_config
from g5kdeploy.exporter.document import Mistakes

SOURCES = Path(__file__).parents[3] / "bpf"


def config(name: str) -> Config:
    mistakes = Mistakes()
    found = read_config(SOURCES, name, mistakes)
    assert found is not None and not mistakes.found
    return found


def words(counter: Counter, label: str) -> dict[str, str]:
    """The static map of a label."""
    (found,) = [one for one in counter.labels if one.name == label]
    return found.decoders[-1].static_map


def test_every_drop_reason_has_its_name() -> None:
    text = (SOURCES / "include" / "drop_reason.bpf.h").read_text()
    names = re.findall(r"X\(([A-Z0-9_]+)\)", text.split("#define DROP_REASONS(X)")[1].split("/*")[0])
    assert len(names) > 100 and len(names) < 255
    expected = {"0": "other"} | {str(number): name.lower() for number, name in enumerate(names, 1)}
    drops, udp, _ = config("packet_drops").counters
    assert words(drops, "reason") == expected
    assert words(udp, "reason") == expected


@pytest.mark.parametrize(
    ("program", "metric", "low", "high"),
    [
        ("tcp", "tcp_rtt_seconds", "RTT_MIN", "RTT_MAX"),
        ("tcp", "tcp_connect_seconds", "RTT_MIN", "LATENCY_MAX"),
        ("tcp_queues", "tcp_syn_queue_length", "", "LENGTH_MAX"),
        ("tcp_queues", "tcp_accept_queue_length", "", "LENGTH_MAX"),
        ("tcp_queues", "tcp_receive_window_bytes", "", "WINDOW_MAX"),
        ("net_rx", "net_rx_wait_seconds", "LATENCY_MIN", "SOFTIRQ_MAX"),
        ("net_rx", "net_rx_run_seconds", "LATENCY_MIN", "SOFTIRQ_MAX"),
        ("net_rx", "napi_poll_packets", "", "PACKETS_MAX"),
        ("runqueue_length", "runqueue_length", "", "LONGEST"),
    ],
)
def test_histograms_have_the_bounds_that_the_programs_use(program: str, metric: str, low: str, high: str) -> None:
    text = (SOURCES / f"{program}.bpf.c").read_text() + (SOURCES / "include" / "maps.bpf.h").read_text()

    def defined(name: str) -> int:
        found = re.search(rf"#define {name} (\d+)", text)
        assert found, name
        return int(found[1])

    (histogram,) = [one for one in config(program).histograms if one.name == metric]
    assert histogram.keys[0] == (defined(low) if low else 0)
    assert histogram.keys[-1] == defined(high)


@pytest.mark.parametrize(
    "program",
    [
        *("tcp", "tcp_queues", "packet_drops", "socket_drops", "multicast", "igmp", "net_rx", "xdp", "xdp_errors"),
        *("xdp_verdicts", "xsk", "readahead", "offcpu", "throttling", "shrinkers", "llc"),
    ],
)
def test_every_loss_has_its_word(program: str) -> None:
    text = (SOURCES / f"{program}.bpf.c").read_text()
    (kinds,) = re.findall(r"enum \{ ((?:LOST_\w+, )+)LOST_KINDS \};", text)
    expected = [word.removeprefix("LOST_").lower() for word in kinds.rstrip(", ").split(", ")]
    (lost,) = [counter for counter in config(program).counters if counter.name.endswith("_lost_total")]
    assert list(words(lost, "what").values()) == expected
