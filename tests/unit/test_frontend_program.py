"""The frontend's commands as processes of their own, when whoever reads them leaves before they are done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from g5kdeploy.lab.site.commands import Commands
from g5kdeploy.lab.site.names import LAB

MANY = 1 << 20  # bytes: more than a pipe holds


class Management:
    """What the commands ask, with one node and a scheduler that says a lot; `asked` are the scheduler's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = folder / "console.log"
        self.asked: list[tuple[str, list[str]]] = []
        node: Any = SimpleNamespace(name=LAB.node(1), console=self.console, on=lambda: True)
        self.commands = Commands(LAB, {LAB.node(1): node})
        self.commands.others["oar"] = self.scheduler

    def scheduler(self, request: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        self.asked.append((request["command"], request["words"]))
        if request["command"] == "oarsub":
            yield {"ends": "7"}
            for _ in range(MANY // 1024):
                yield {"text": "x" * 1023 + "\n"}

    def left(self, *words: str, after: int) -> tuple[int, str]:
        """Exit status and stderr of a command of which `after` bytes are read, and no more."""
        program = [sys.executable, self.folder / "bin" / words[0], *words[1:]]
        process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            assert process.stdout and process.stderr
            assert len(process.stdout.read(after)) == after
            process.stdout.close()
            said = process.stderr.read().decode()
        return process.returncode, said


@pytest.fixture
def management(tmp_path: Path) -> Iterator[Management]:
    made = Management(tmp_path)
    made.commands.start(tmp_path)
    try:
        yield made
    finally:
        made.commands.stop()


@pytest.mark.parametrize("size", [100, MANY])
def test_a_console_is_followed_for_as_long_as_somebody_reads(management: Management, size: int) -> None:
    """Also when nothing comes any more: then there is no write that could fail."""
    management.console.write_text("x" * size)
    assert management.left("kaconsole3", "-m", "vm-1", "--follow", after=100) == (0, "")


def test_what_nobody_reads_is_no_error(management: Management) -> None:
    assert management.left("kapower3", "--status", "-m", "vm-1", after=0) == (0, "")
    rows = management.folder / "properties"
    rows.write_text("".join(f"host = 'node-{number}'\n" for number in range(MANY // 32)))
    assert management.left("oarprint", "host", "-f", str(rows), after=10) == (0, "")


def test_an_interactive_job_ends_with_its_reader(management: Management) -> None:
    assert management.left("oarsub", "-I", after=1024) == (0, "")
    assert management.asked == [("oarsub", ["-I"]), ("oardel", ["7"])]
