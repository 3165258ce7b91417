"""Makes events of the kernel and of filesystems happen, and notes what the exporter served before and after them.

    node.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...

One exporter serves all programs: scenario X makes the events of program X happen.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exporting import WORK, Exporter, run, tell

SCENARIOS: dict[str, Callable[[], dict[str, Any]]] = {}
SETTINGS: dict[str, str] = {}
"""X.load.yaml of a program, where its scenario needs one."""
EXPORTER: list[Exporter] = []


def scenario(function: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    SCENARIOS[function.__name__] = function
    return function


@contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """What was served before and after; more can be added by the scenario."""
    (exporter,) = EXPORTER
    seen: dict[str, Any] = {"before": exporter.samples()}
    yield seen
    seen["after"] = exporter.samples()


def prepare() -> None:
    settings = {f"{name}.load.yaml": text for name, text in SETTINGS.items()}
    EXPORTER.append(Exporter(",".join(sys.argv[5:] or SCENARIOS), settings))


@scenario
def statx() -> dict[str, Any]:
    """100 calls of a process in a cgroup of its own."""
    group = Path("/sys/fs/cgroup/statx")
    group.mkdir()
    call = f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
    with watched() as seen:
        subprocess.run([sys.executable, "-c", f"{call}; [os.stat('/') for _ in range(3)]"], check=True)
        run("sh", "-c", f"echo $$ > {group}/cgroup.procs; for i in 1 2 3 4 5; do stat -c %s /; done")
    return seen


if __name__ == "__main__":
    tell(SCENARIOS, prepare)
    for exporter in EXPORTER:
        (WORK / "exporter.log").write_text(exporter.text())
        exporter.end()
