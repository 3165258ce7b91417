"""The scheduler's process killed at any moment: its store goes on from the last whole step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.oar import Oar, Query, Resource

PROGRAM = """
import sys
from pathlib import Path
from tests.integration.test_oar_crash import site
from g5kdeploy.lab.oar import Oar

oar = Oar(Path(sys.argv[1]), site(), pace=1000.0)
oar.start()
while True:
    job = oar.submit("jdoe", {"resource": "nodes=1,walltime=0:1", "command": "true", "type": ["deploy"]})
    print(job.id, flush=True)
    if job.id % 3 == 0:
        print(oar.delete(job.id, "jdoe").split()[4], flush=True)
"""


def site() -> list[Resource]:
    return [Resource(i, "default", f"n-{i}", {"cluster": "n", "core": i}) for i in range(1, 5)]


@pytest.mark.parametrize("lines", [1, 5, 17, 40])
def test_killed_while_it_works(tmp_path: Path, lines: int) -> None:
    store = tmp_path / "oar.sqlite"
    promised: set[int] = set()
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(store)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        try:
            for _ in range(lines):
                promised.add(int(process.stdout.readline()))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    assert_whole(store, promised)


def assert_whole(store: Path, promised: set[int]) -> None:
    """Every job that was promised is there, no node is held twice, and all come to their end."""
    now = [2_000_000_000.0]
    oar = Oar(store, site(), Clock(lambda: now[0], lambda: now[0], lambda _seconds: None))
    try:
        jobs = oar.jobs(Query()).jobs
        assert promised <= {job.id for job in jobs}
        assert [job.id for job in jobs] == list(range(len(jobs), 0, -1))
        held = [r.id for job in oar.current() if job.state != "Waiting" for r in job.assigned]
        assert len(held) == len(set(held))
        for _ in range(20_000):
            oar.tick()
            now[0] += 1
            if not oar.current():
                break
        states = {job.state for job in oar.jobs(Query()).jobs}
        assert states <= {"Terminated", "Error"}
        for job in oar.jobs(Query()).jobs:
            story = [state for state, _ in oar.states(job.id)]
            assert len(story) == len(set(story)), story
    finally:
        oar.stop()
