"""The phase report, and the summary that ends a run."""

from __future__ import annotations

from typing import Any

from g5kdeploy.workflow import measuring
from g5kdeploy.workflow.session import Session


def report(session: Session) -> dict[str, Any]:
    """Write report.html and what other programs want to know of the run."""
    from g5kdeploy.runs.provenance import write_crate, write_sbom
    from g5kdeploy.runs.report import write_report

    write_sbom(session.run)
    path = write_report(session.run)
    write_crate(session.run)
    return {"report": str(path)}


def summary(session: Session) -> dict[str, Any]:
    """What the run came to, as plain values: phases, nodes, samples, the workload's histograms and counters."""
    from g5kdeploy.runs import report as page

    told = page.facts(session.run)
    document = told["run"]
    return {
        "run": session.run.id,
        "folder": str(session.run.folder),
        "report": str(session.run.report_file) if session.run.report_file.exists() else "",
        "testbed": session.run.testbed,
        "site": session.run.site,
        "job": document["job"]["id"] if document["job"] else None,
        "phases": told["phases"],
        "total": told["total"],
        "nodes": [
            {key: node[key] for key in ("name", "role", "stage", "lost", "before", "after", "system")}
            for node in told["nodes"]
        ],
        "samples": told["samples"].count,
        "workload": {
            node: words for node in document["nodes"] if (words := measuring.workload_words(session, node)) is not None
        },
        "histograms": [
            {
                "node": one["node"],
                "metric": one["metric"],
                "labels": one["labels"],
                "count": one["count"],
                "mean": one["mean"],
                "rows": one["rows"],
            }
            for one in told["histograms"]
            if one["workload"]
        ],
        "counters": [
            {"node": c.node, "metric": c.metric, "labels": dict(c.labels), "increase": c.increase}
            for c in told["counters"]
            if page.is_workload(c.labels) and c.increase
        ],
        "warnings": document["warnings"],
    }
