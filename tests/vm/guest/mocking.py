"""The mock through all of its cases, on whatever kernel this is; and what that kernel says that it can do."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

OVERRIDE = "{name: statx_mock_override, mode: override}"
REWRITE = "{name: statx_mock_rewrite, mode: exit_rewrite}"
REVERSED = (sys.executable, str(Path(__file__).with_name("reversed_exporter.py")))
"""The exporter that attaches everything in the opposite order."""
PATIENCE = 300.0


class Serving(Protocol):
    """An exporter with statx and statx_mock."""

    def samples(self) -> dict[str, float]: ...
    def end(self, number: int = signal.SIGTERM) -> int: ...
    def text(self) -> str: ...


def settings(alternatives: str, mocked: Path) -> dict[str, str]:
    """The files that make the mock answer for that path, in these ways."""
    text = f"alternatives: [{alternatives}]\nmode_metric: mock_mode\nvalues: {{mock_path: {mocked}}}\n"
    return {"statx_mock.load.yaml": text}


def modification(path: Path) -> int:
    return int(subprocess.check_output(["stat", "-c", "%Y", str(path)]))


def programs() -> set[int]:
    """The numbers of the BPF programs that the kernel holds; a number is never used again."""
    library, number, found = ctypes.CDLL("libbpf.so.1"), ctypes.c_uint32(0), set()
    while library.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        found.add(number.value)
    return found


def go_through(
    exporter: Serving, cases: Path, mocked: Path, other: Path, number: int, before: set[int]
) -> dict[str, Any]:
    """All cases; then the exporter is ended by a signal. `before`: the programs that were there before it."""
    seen: dict[str, Any] = {"before": exporter.samples()}
    seen["cases"] = json.loads(subprocess.check_output([str(cases), str(mocked), str(other)]))
    seen["after"] = exporter.samples()
    away = mocked.with_name("away")
    mocked.rename(away)
    absent = subprocess.run(["stat", "-c", "%Y", str(mocked)], capture_output=True, text=True, check=False)
    away.rename(mocked)
    seen["absent"] = absent.stdout + absent.stderr
    own = programs() - before
    seen["programs"] = len(own)
    seen["status"] = exporter.end(number)
    seen["true_again"] = modification(mocked)
    end = time.monotonic() + PATIENCE  # the kernel lets go of programs a little later
    while own & programs() and time.monotonic() < end:
        time.sleep(0.05)
    seen["left"] = len(own & programs())
    seen["log"] = exporter.text()
    return seen


def kernel(repository: Path, objects: Path) -> dict[str, Any]:
    """What the probe of `doctor --node` says."""
    words = [sys.executable, "-m", "g5kdeploy.exporter.kernel_probe", str(objects)]
    environment = os.environ | {"PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False, timeout=PATIENCE)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
