"""The dashboard: every metric of every program has its panels, and they ask for what the exporter serves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.exporter.config import Histogram
from g5kdeploy.exporter.dashboard import dashboard, main, programs
from g5kdeploy.exporter.document import Mistakes

BPF = Path(__file__).parents[3] / "bpf"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    mistakes = Mistakes()
    found = dashboard(programs(BPF, mistakes))
    assert not mistakes, mistakes.found
    return found


def asked(panels: list[dict[str, Any]]) -> str:
    return "\n".join(target["expr"] for panel in panels for target in panel.get("targets", []))


def test_every_metric_has_a_panel_whose_title_is_its_help(made: dict[str, Any]) -> None:
    for config in programs(BPF, Mistakes()):
        for metric in config.metrics:
            own = [panel for panel in made["panels"] if f"ebpf_exporter_{metric.name}" in asked([panel])]
            assert own, metric.name
            if metric.name.endswith("_lost_total"):
                assert own[0]["title"] == f"Lost by {config.name}"
            else:
                assert own[0]["title"] == metric.help
            for label in metric.labels[: -1 if isinstance(metric, Histogram) else None]:
                assert any(
                    f"{{{{{label.name}}}}}" in target["legendFormat"] for panel in own for target in panel["targets"]
                )


def test_counters_are_rates_and_histograms_heat_maps_with_quantiles(made: dict[str, Any]) -> None:
    by_title = {(panel["type"], panel["title"]): panel for panel in made["panels"]}
    calls = by_title["timeseries", "Calls of statx(2) that ended, by cgroup"]
    assert calls["targets"][0]["expr"] == (
        'sum by (cgroup) (rate(ebpf_exporter_statx_calls_total{instance=~"$node"}[$__rate_interval]))'
    )
    assert by_title["heatmap", "Time spent in statx(2), by cgroup"]["targets"][0]["format"] == "heatmap"
    quantiles = by_title["timeseries", "Time spent in statx(2), by cgroup: median and 99th percentile"]
    assert [target["legendFormat"] for target in quantiles["targets"]] == ["p50 {{cgroup}}", "p99 {{cgroup}}"]
    assert quantiles["fieldConfig"]["defaults"]["unit"] == "s"


def test_panels_have_numbers_of_their_own_and_lie_beside_each_other(made: dict[str, Any]) -> None:
    panels = made["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells


def test_queries_are_whole_and_ask_the_chosen_nodes_alone(made: dict[str, Any]) -> None:
    for line in asked(made["panels"]).splitlines():
        for pair in ("()", "{}", "[]"):
            assert line.count(pair[0]) == line.count(pair[1]), line
        for metric in re.findall(r"\b(?:ebpf_exporter|g5k_bpf)_\w+", line):
            assert f'{metric}{{instance=~"$node"}}' in line


def test_the_command_prints_it_and_knows_which_programs_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config.dir", str(BPF), "--config.names", "statx_mock,statx"]) == 0
    rows = [panel["title"] for panel in json.loads(capsys.readouterr().out)["panels"] if panel["type"] == "row"]
    assert rows == ["exporter", "statx_mock", "statx"]
    for names, missing in (("nothing", "nothing"), ("statx,", ""), (",", ""), ("", "")):
        assert main(["--config.dir", str(BPF), "--config.names", names]) == 2
        assert f"there is no program `{missing}`; there are: " in capsys.readouterr().err


def test_a_mistake_in_a_yaml_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.yaml").write_text("metrics:\n  gauges: []\n")
    assert main(["--config.dir", str(tmp_path)]) == 2
    assert "x.yaml:2: " in capsys.readouterr().err
