"""The closures of every role as local machines, under the test script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.closure.manifest import Manifest
from g5kdeploy.events.event import Emitter
from g5kdeploy.vmtest.verdict import Verdict


def run_local(
    manifest: Manifest,
    counts: Mapping[str, int],
    script: Path,
    folder: Path,
    deadline: Deadline,
    emit: Emitter,
    timeout: float,
    *,
    reuse: bool = True,
) -> Verdict:
    """Boot the closures of each role as local machines (`counts`: role → machines) and run the script on them.

    The script has `timeout` seconds, booting included. `folder` is left with junit.xml, output.log and the machines'
    consoles; the machines are ended whatever happens. With `reuse` an earlier verdict on the same systems, counts and
    script is taken instead. Raises `ScriptFailed`, `DeadlinePassed` and what QEMU's room raises.
    """
    raise SystemError  # replaced with the driver
