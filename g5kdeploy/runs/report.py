"""report.html of a run: one page that opens from the disk, with no network."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from g5kdeploy.base import files
from g5kdeploy.base.text import clean, human_bytes, human_seconds
from g5kdeploy.runs import drawing, samples
from g5kdeploy.runs.run import Run
from g5kdeploy.runs.samples import Histogram

MOST_HISTOGRAMS = 12
MOST_FILES = 300
MOST_COUNTERS = 300
WORKLOAD = "g5kdeploy-workload"  # in the cgroup of what the benchmark runs: its histograms come first


def write_report(run: Run) -> Path:
    """Write report.html from what the run's folder holds, whatever phase it has come to; its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(seconds=human_seconds, bytes=human_bytes, day=_day)
    page = templates.get_template("report.html.j2").render(**facts(run))
    files.write(run.report_file, page)
    return run.report_file


def facts(run: Run) -> dict[str, Any]:
    """What the report tells, as plain values; the command's summary is made of the same."""
    document = run.document()
    measured = samples.read(run.metrics)
    histograms = chosen(measured.histograms())
    return {
        "run": document,
        "phases": [
            {"phase": name, "state": record.state.value, "seconds": record.seconds, "detail": record.detail}
            for name, record in run.phases().items()
            if not (name == "report" and record.ended is None)  # the phase that writes this page
        ],
        "total": sum(record.seconds or 0.0 for record in run.phases().values()),
        "nodes": [_node(name, node, document) for name, node in sorted(document["nodes"].items())],
        "histograms": [_histogram(one) for one in histograms],
        "counters": _counters(measured)[:MOST_COUNTERS],
        "programs": _programs(measured),
        "samples": measured,
        "workload": _workload(run, document.get("benchmark") or {}),
        "files": _files(run.folder)[:MOST_FILES],
        "made": time.time(),
    }


def chosen(histograms: Sequence[Histogram]) -> list[Histogram]:
    """Those worth showing, the workload's own first."""
    return sorted(histograms, key=lambda one: not is_workload(one.labels))[:MOST_HISTOGRAMS]


def is_workload(labels: Mapping[str, str]) -> bool:
    """Whether a series is about the cgroup that the benchmark runs in."""
    return any(WORKLOAD in value for value in labels.values())


def _node(name: str, node: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    told = node.get("facts", {})
    closure = (document.get("closures") or {}).get(node.get("role", ""), {})
    return {
        "name": name,
        "role": node.get("role", ""),
        "stage": node.get("stage", ""),
        "lost": node.get("lost_because", ""),
        "before": told.get("release_before", ""),
        "after": told.get("release_after", ""),
        "system": told.get("current_system", "") or closure.get("toplevel", ""),
        "facts": told,
        "hardware": _hardware(node.get("hardware", {})),
    }


def _hardware(described: Mapping[str, Any]) -> dict[str, str]:
    """The few words on a node's hardware that a reader wants first, out of its reference description."""
    if not described:
        return {}
    processor, shape = described.get("processor") or {}, described.get("architecture") or {}
    memory = (described.get("main_memory") or {}).get("ram_size")
    disks = described.get("storage_devices") or []
    words = {
        "processor": " ".join(str(processor[key]) for key in ("model", "version") if processor.get(key)),
        "cores": str(shape.get("nb_cores", "")),
        "memory": human_bytes(memory) if memory else "",
        "disks": ", ".join(f"{disk.get('device', '?')} {human_bytes(disk.get('size') or 0)}" for disk in disks),
        "whole description": json.dumps(described, ensure_ascii=False),
    }
    return {key: value for key, value in words.items() if value}


def _workload(run: Run, benchmark: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How the workload ended on each node, and the last thing it said."""
    rows = []
    for node, told in (benchmark.get("nodes") or {}).items():
        log = run.folder / "nodes" / node / "workload.log"
        said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        rows.append({"node": node, **told, "said": clean(said[-1]) if said else ""})
    return rows


def _histogram(one: Histogram) -> dict[str, Any]:
    return {
        "node": one.node,
        "metric": one.metric,
        "labels": one.labels,
        "count": one.count,
        "workload": is_workload(one.labels),
        "mean": drawing.bound_text(one.mean(), one.metric),
        "quantiles": [(f"{q:.0%}", drawing.bound_text(one.quantile(q), one.metric)) for q in (0.5, 0.9, 0.99)],
        "svg": drawing.svg(one),
        "rows": [
            (drawing.bound_text(bucket.low, one.metric), drawing.bound_text(bucket.high, one.metric), bucket.count)
            for bucket in one.trimmed()
        ],
    }


def _counters(measured: samples.Samples) -> list[samples.Growth]:
    """Counters that count something, without those that histograms consist of and the exporter's and Python's own."""
    return sorted(
        (
            growth
            for growth in measured.growths.values()
            if growth.metric.endswith("_total")
            and (growth.increase or growth.last)
            and not growth.metric.startswith(("python_", "process_", "g5k_", "go_", "promhttp_"))
        ),
        key=lambda growth: (not is_workload(growth.labels), growth.metric, growth.node, -growth.increase),
    )


def _programs(measured: samples.Samples) -> list[dict[str, Any]]:
    """What became of the BPF programs on each node, as their exporter told at the end: loaded or not, and in which mode."""
    ends = [growth for growth in measured.growths.values() if "config" in growth.labels]
    modes = {
        (growth.node, growth.labels["config"]): growth.labels["mode"]
        for growth in ends
        if growth.metric.startswith("g5k_bpf_") and "mode" in growth.labels and growth.last == 1
    }
    return [
        {
            "node": growth.node,
            "program": growth.labels["config"],
            "loaded": growth.last == 1,
            "mode": modes.get((growth.node, growth.labels["config"]), ""),
        }
        for growth in sorted(ends, key=lambda one: (one.node, one.labels["config"]))
        if growth.metric == "g5k_bpf_program_loaded"
    ]


def _files(folder: Path) -> list[tuple[str, int]]:
    return [
        (str(path.relative_to(folder)), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "samples" and not _hidden(path.relative_to(folder))
    ]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _day(moment: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(moment)) if moment else ""
