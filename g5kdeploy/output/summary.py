"""The end of a run on a terminal: phases, nodes, what was measured, as far as 100 columns can tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from g5kdeploy.base.text import clean, human_seconds
from g5kdeploy.output.documents import table

BAR = 40  # characters of the longest bar
MOST_HISTOGRAMS = 3


def summary(facts: Mapping[str, Any], color: bool = False) -> str:
    """What `runs.report.facts` found, as text: the summary that `run` ends with."""
    run = facts["run"]
    parts = [f"run {run['id']} of {run['name']} on {run['testbed']}, site {run['site']}"]
    parts += [_phases(facts["phases"], facts["total"], color), _nodes(facts["nodes"], color)]
    parts.append(f"{facts['samples'].count} samples")
    mine = [one for one in facts["histograms"] if one["workload"]]
    parts += [_histogram(one) for one in (mine or facts["histograms"])[:MOST_HISTOGRAMS]]
    parts += [f"warning: {clean(warning)}" for warning in run["warnings"]]
    return "\n\n".join(part for part in parts if part)


def _phases(phases: Sequence[Mapping[str, Any]], total: float, color: bool) -> str:
    rows = [
        {
            "phase": phase["phase"],
            "state": phase["state"],
            "time": "" if phase["seconds"] is None else human_seconds(round(phase["seconds"], 1)),
            "detail": phase["detail"].partition("\n")[0],
        }
        for phase in phases
    ]
    rows.append({"phase": "together", "state": "", "time": human_seconds(round(total, 1)), "detail": ""})
    return table(rows, ("phase", "state", "time", "detail"), color)


def _nodes(nodes: Sequence[Mapping[str, Any]], color: bool) -> str:
    rows = [
        {
            "node": node["name"],
            "role": node["role"],
            "stage": f"{node['stage']}: {node['lost']}" if node["lost"] else node["stage"],
            "kernel before": node["before"],
            "kernel after": node["after"],
        }
        for node in nodes
    ]
    systems = dict.fromkeys(f"{node['role']}: {node['system']}" for node in nodes if node["system"])
    listed = table(rows, ("node", "role", "stage", "kernel before", "kernel after"), color)
    return "\n\n".join(part for part in (listed, "\n".join(systems)) if part)


def _histogram(one: Mapping[str, Any]) -> str:
    quantiles = ", ".join(f"{name} ≤ {value}" for name, value in one["quantiles"])
    title = f"{one['metric']}{' of the workload' if one['workload'] else ''} on {one['node']}: "
    title += f"{one['count']:.0f} observations\n  mean {one['mean']}, {quantiles}"
    most = max((count for _, _, count in one["rows"]), default=0)
    width = max((len(high) for _, high, _ in one["rows"]), default=0)
    digits = len(f"{most:.0f}")
    lines = [
        f"  ≤ {high.rjust(width)}  {count:{digits}.0f}  {'█' * max(1 if count else 0, round(BAR * count / most))}".rstrip()
        for _, high, count in one["rows"]
    ]
    return "\n".join([title, *lines])
