"""The mock on the distribution's kernel, which lets no program override a call: the answer is rewritten.

mock.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...
"""

from __future__ import annotations

import signal
from typing import Any

import mocking
from exporting import OUT, PROGRAMS, REPOSITORY, WORK, Exporter, tell

MOCKED, OTHER = WORK / "override", WORK / "other"


def prepare() -> None:
    for file in (MOCKED, OTHER):
        file.write_text("true\n")


def mock(names: str, number: int, *program: str) -> dict[str, Any]:
    true, before = mocking.modification(MOCKED), mocking.programs()
    files = mocking.settings(f"{mocking.OVERRIDE}, {mocking.REWRITE}", MOCKED)
    exporter = Exporter(names, files, program) if program else Exporter(names, files)
    cases = OUT.with_name("mock_cases")
    return {"true": true, **mocking.go_through(exporter, cases, MOCKED, OTHER, number, before)}


SCENARIOS = {
    "kernel": lambda: mocking.kernel(REPOSITORY, PROGRAMS),
    "rewrite": lambda: mock("statx,statx_mock", signal.SIGKILL),
    "rewrite_reversed": lambda: mock("statx_mock,statx", signal.SIGTERM, *mocking.REVERSED),
}

if __name__ == "__main__":
    tell(SCENARIOS, prepare)
