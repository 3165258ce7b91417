from __future__ import annotations

from pathlib import Path

import pytest

from g5kdeploy.exporter import load_settings
from g5kdeploy.exporter.document import Mistakes
from g5kdeploy.exporter.load_settings import read_load_settings
from g5kdeploy.exporter.xdp import XdpError, XdpSettings, default_route

HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def row(device: str, destination: str, metric: int, mask: str) -> str:
    return f"{device}\t{destination}\t0101A8C0\t0003\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("xdp: {device: eth1}", XdpSettings("eth1", "auto")),
        ("xdp: {device: default-route, mode: generic}", XdpSettings("default-route", "generic")),
        ("filter: {tgid: 1}", XdpSettings()),
    ],
)
def test_the_device_and_the_mode_of_xdp(tmp_path: Path, text: str, settings: XdpSettings) -> None:
    (tmp_path / "x.load.yaml").write_text(text)
    mistakes = Mistakes()
    assert read_load_settings(tmp_path, "x", mistakes).xdp == settings
    assert mistakes.found == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("xdp: {mode: native}", "device"),
        ("xdp: {device: eth0, mode: offload}", "unknown mode offload of xdp; known: auto, native, generic"),
        ("xdp: {device: a-name-of-16-char}", "cannot be the name of a network device"),
        ("xdp: {device: ''}", "cannot be the name of a network device"),
        ("xdp: eth0", "xdp"),
    ],
)
def test_mistakes_in_where_xdp_goes(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.load.yaml").write_text(text)
    mistakes = Mistakes()
    read_load_settings(tmp_path, "x", mistakes)
    assert len(mistakes.found) == 1 and words in mistakes.found[0], mistakes.found
    assert mistakes.found[0].startswith(f"{tmp_path / 'x.load.yaml'}:1: ")


def test_a_nodes_own_settings_stand_in_place_of_those_beside_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, folder = tmp_path / "etc", tmp_path / "bpf"
    for place, device in ((own, "eth1"), (folder, "default-route")):
        place.mkdir()
        (place / "x.load.yaml").write_text(f"xdp: {{device: {device}}}\n")
    (folder / "y.load.yaml").write_text("filter: {tgid: 7}\n")
    (own / "z.load.yaml").write_text("wrong: 1\n")
    monkeypatch.setattr(load_settings, "NODES_OWN", own)
    mistakes = Mistakes()
    assert read_load_settings(folder, "x", mistakes).xdp.device == "eth1"
    assert read_load_settings(folder, "y", mistakes).filter_tgid == 7
    assert mistakes.found == []
    read_load_settings(folder, "z", mistakes)
    assert mistakes.found and mistakes.found[0].startswith(f"{own / 'z.load.yaml'}:1: ")


def test_the_device_of_the_default_route_is_that_of_least_metric(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(
        HEADER
        + row("lan", "0001A8C0", 0, "00FFFFFF")
        + row("slow", "00000000", 600, "00000000")
        + row("quick", "00000000", 100, "00000000")
        + row("half", "00000000", 0, "00000080")
    )
    assert default_route(table) == "quick"


@pytest.mark.parametrize("text", ["", HEADER, HEADER + row("lan", "0001A8C0", 0, "00FFFFFF"), None])
def test_without_a_default_route(tmp_path: Path, text: str | None) -> None:
    table = tmp_path / "route"
    if text is not None:
        table.write_text(text)
    with pytest.raises(XdpError, match="there is no default route"):
        default_route(table)
