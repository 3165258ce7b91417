"""The same script on deployed nodes."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.event import Emitter
from g5kdeploy.node import Reach
from g5kdeploy.vmtest.names import names_of
from g5kdeploy.vmtest.plan import Plan, Target
from g5kdeploy.vmtest.supervise import GRACE_SECONDS, Supervisor
from g5kdeploy.vmtest.verdict import Verdict


def run_on_nodes(
    reach: Reach, nodes: Mapping[str, str], script: Path, folder: Path, deadline: Deadline, emit: Emitter
) -> Verdict:
    """Run the script on nodes (full name → role) that run their closures; never reused, nodes are not known by a hash.

    `folder` is left with junit.xml and output.log. Raises `ScriptFailed` and `DeadlinePassed`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        marker=f"@{secrets.token_hex(8)}@",
        script=str(script),
        folder=str(folder),
        seconds=max(1.0, deadline.remaining() - GRACE_SECONDS),
        home=str(reach.home),
        user=reach.user,
        known_hosts=str(reach.known_hosts),
        targets=[Target(name, nodes[node], reach.name_of(node)) for name, node in names_of(nodes).items()],
    )
    with tempfile.TemporaryDirectory(prefix="g5kdeploy-check-") as state:
        path = Path(state) / "plan.json"
        plan.save(path)
        return Supervisor(plan, folder, emit).run(path, deadline)
