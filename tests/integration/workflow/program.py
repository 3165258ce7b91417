"""g5kdeploy as a process of its own, for tests: shorter waits, and a phase that stands still where a test wants it.

TEST_CONSTANTS: JSON, dotted name → value. TEST_STALL: `PHASE:before` or `PHASE:after`; TEST_MARK: the file that says
that it stands there. It stands still once.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from g5kdeploy.cli.main import process
from g5kdeploy.workflow import chain

for name, value in json.loads(os.environ.get("TEST_CONSTANTS", "{}")).items():
    module, _, attribute = name.rpartition(".")
    getattr(importlib.import_module(module), attribute)  # it is there
    setattr(importlib.import_module(module), attribute, value)


def stalled(phase: chain.Phase, where: str, mark: Path) -> chain.Phase:
    def stand() -> None:
        if not mark.exists():
            mark.touch()
            while True:
                time.sleep(1)

    def work(session: Any) -> dict[str, Any]:
        if where == "before":
            stand()
        result = phase.work(session)
        if where == "after":
            stand()
        return result

    return dataclasses.replace(phase, work=work)


if stall := os.environ.get("TEST_STALL"):
    name, _, where = stall.partition(":")
    chain.BY_NAME[name] = stalled(chain.BY_NAME[name], where, Path(os.environ["TEST_MARK"]))

sys.exit(process())
