"""The run folder, its index, statistics, comparison, report.

`runs.report.write_report`, `runs.provenance.write_crate` and `write_sbom`, and `runs.samples.read` are imported from
their modules, since what they need is slow to load.
"""

from g5kdeploy.runs.find import Listing, NoRun, describe, find, list_runs, runs_folder, unreleased
from g5kdeploy.runs.run import PhaseRecord, PhaseState, Run, key_of, new_id

__all__ = [
    "Listing",
    "NoRun",
    "PhaseRecord",
    "PhaseState",
    "Run",
    "describe",
    "find",
    "key_of",
    "list_runs",
    "new_id",
    "runs_folder",
    "unreleased",
]
