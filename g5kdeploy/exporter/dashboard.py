"""A Grafana dashboard made of the programs' YAMLs: what is a metric there has a panel here.

    python3 -m g5kdeploy_exporter.dashboard --config.dir /usr/lib/g5kdeploy/bpf > dashboard.json

A counter is shown as a rate by its labels, a histogram as a heat map and as quantiles, losses together, one row a program.
Whoever adds a program has its panels by making the dashboard anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .config import Config, Counter, Histogram, read_config
from .document import Mistakes
from .load_settings import read_load_settings

PREFIX = "ebpf_exporter_"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 24, 8
NODE = 'instance=~"$node"'
_UNITS = {"_seconds": "s", "_bytes": "bytes"}

Panel = dict[str, Any]


def programs(folder: Path, mistakes: Mistakes) -> list[Config]:
    """The folder's programs, by name. One that is there in several versions stands once, under its common name."""
    names = {file.name.removesuffix(".yaml").removesuffix(".load") for file in folder.glob("*.yaml")}
    settings = {name: read_load_settings(folder, name, mistakes) for name in names}
    versions = {one.name for found in settings.values() for one in found.alternatives}
    configs = []
    for name in sorted(names - versions):
        chosen = settings[name].alternatives
        config = read_config(folder, chosen[0].name if chosen else name, mistakes)
        if config is not None:
            configs.append(replace(config, name=name))
    return configs


def dashboard(configs: Sequence[Config], title: str = "BPF programs") -> dict[str, Any]:
    """What Grafana (10 or later) imports: a row with panels for each program, and one for the exporter itself."""
    panels: list[Panel] = []
    y = 0
    for name, row in [("exporter", list(_own())), *((config.name, list(_program(config))) for config in configs)]:
        panels.append(
            {"type": "row", "title": name, "collapsed": False, "panels": [], "gridPos": _place(0, y, WIDTH, 1)}
        )
        y += 1
        width = WIDTH // 2
        for number, panel in enumerate(row):
            panels.append(panel | {"gridPos": _place(number % 2 * width, y + number // 2 * HEIGHT, width, HEIGHT)})
        y += (len(row) + 1) // 2 * HEIGHT
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return {
        "title": title,
        "uid": "g5kdeploy-bpf",
        "schemaVersion": 39,
        "tags": ["bpf"],
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _variables() -> list[dict[str, Any]]:
    query = f"label_values({PREFIX}enabled_configs, instance)"
    node = {"name": "node", "label": "Node", "type": "query", "datasource": SOURCE, "query": query, "refresh": 2}
    return [
        {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"},
        node | {"includeAll": True, "multi": True, "current": {"text": "All", "value": "$__all"}},
    ]


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _own() -> Iterator[Panel]:
    yield _lines(
        "Programs in the kernel", [(f"sum by (config) (g5k_bpf_program_loaded{{{NODE}}})", "{{config}}")], "none"
    )
    fill = f"max by (config, map) (g5k_bpf_map_entries{{{NODE}}} / g5k_bpf_map_max_entries{{{NODE}}})"
    yield _lines("How full the maps are", [(fill, "{{config}} {{map}}")], "percentunit")
    yield _lines("Time to read all maps", [(f"g5k_bpf_scrape_seconds{{{NODE}}}", "{{instance}}")], "s")


def _program(config: Config) -> Iterator[Panel]:
    """The panels of a program: what it counts, what it measures, then what it lost."""
    losses = [counter for counter in config.counters if _is_loss(counter)]
    for counter in config.counters:
        if counter not in losses:
            yield _counter(counter)
    for histogram in config.histograms:
        yield from _histogram(histogram)
    if losses:
        queries = [_rate(counter) for counter in losses]
        yield _lines(f"Lost by {config.name}", queries, "cps", "; ".join(counter.help for counter in losses))


def _is_loss(counter: Counter) -> bool:
    return counter.name.endswith("_lost_total")


def _unit(name: str) -> str:
    return next((unit for end, unit in _UNITS.items() if end in name), "none")


def _counter(counter: Counter) -> Panel:
    if counter.name.endswith("_total"):
        unit = {"s": "percentunit", "bytes": "Bps"}.get(_unit(counter.name), "cps")
        return _lines(counter.help, [_rate(counter)], unit, counter.name)
    names = [label.name for label in counter.labels]
    query = f"sum by ({', '.join(['instance', *names])}) ({PREFIX}{counter.name}{{{NODE}}})"
    return _lines(counter.help, [(query, _legend(names) or "{{instance}}")], _unit(counter.name), counter.name)


def _rate(counter: Counter) -> tuple[str, str]:
    names = [label.name for label in counter.labels]
    query = f"sum by ({', '.join(names)}) (rate({PREFIX}{counter.name}{{{NODE}}}[$__rate_interval]))"
    return query, _legend(names) or counter.name


def _legend(names: Sequence[str]) -> str:
    return " ".join(f"{{{{{name}}}}}" for name in names)


def _histogram(histogram: Histogram) -> Iterator[Panel]:
    name, unit = PREFIX + histogram.name, _unit(histogram.name)
    names = [label.name for label in histogram.labels[:-1]]
    buckets = f"sum by (le) (increase({name}_bucket{{{NODE}}}[$__rate_interval]))"
    yield {
        "type": "heatmap",
        "title": histogram.help,
        "description": histogram.name,
        "datasource": SOURCE,
        "options": {
            "calculate": False,
            "yAxis": {"unit": unit},
            "cellGap": 0,
            "color": {"scheme": "Spectral", "mode": "scheme"},
        },
        "fieldConfig": {"defaults": {}, "overrides": []},
        "targets": [_target(0, buckets, "{{le}}") | {"format": "heatmap"}],
    }
    rates = f"sum by ({', '.join(['le', *names])}) (rate({name}_bucket{{{NODE}}}[$__rate_interval]))"
    quantiles = [
        (f"histogram_quantile({quantile}, {rates})", f"p{quantile * 100:g} {_legend(names)}".strip())
        for quantile in (0.5, 0.99)
    ]
    yield _lines(f"{histogram.help}: median and 99th percentile", quantiles, unit, histogram.name)


def _lines(title: str, queries: Sequence[tuple[str, str]], unit: str, description: str = "") -> Panel:
    return {
        "type": "timeseries",
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "custom": {"fillOpacity": 5}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [_target(number, query, legend) for number, (query, legend) in enumerate(queries)],
    }


def _target(number: int, query: str, legend: str) -> dict[str, Any]:
    return {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": legend}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the dashboard of a folder's programs; 2 when a YAML is wrong, with every mistake on stderr."""
    parser = argparse.ArgumentParser(
        prog="python3 -m g5kdeploy_exporter.dashboard", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--config.dir", dest="dir", type=Path, required=True, metavar="DIR", help="folder with X.yaml")
    parser.add_argument("--config.names", dest="names", metavar="A,B", help="these programs alone")
    options = parser.parse_args(arguments)
    mistakes = Mistakes()
    configs = programs(options.dir, mistakes)
    if options.names is not None:
        wanted = options.names.split(",")
        known = {config.name: config for config in configs}
        for name in wanted:
            if name not in known:
                mistakes.add(options.dir, 0, f"there is no program `{name}`; there are: {', '.join(sorted(known))}")
        configs = [known[name] for name in wanted if name in known]
    if mistakes:
        sys.stderr.write("\n".join(mistakes.found) + "\n")
        return 2
    sys.stdout.write(json.dumps(dashboard(configs), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
