"""The same script on deployed nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.event import Emitter
from g5kdeploy.node import Reach
from g5kdeploy.vmtest.verdict import Verdict


def run_on_nodes(
    reach: Reach, nodes: Mapping[str, str], script: Path, folder: Path, deadline: Deadline, emit: Emitter
) -> Verdict:
    """Run the script on nodes (full name → role) that run their closures; never reused, nodes are not known by a hash.

    `folder` is left with junit.xml and output.log. Raises `ScriptFailed` and `DeadlinePassed`.
    """
    raise SystemError  # replaced with the driver
