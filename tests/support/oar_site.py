"""A scheduler with three nodes, for tests of its rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from g5kdeploy.lab.oar import Hooks, Job, Oar, Query, Resource
from g5kdeploy.lab.oar.text import date
from tests.contract.oar_player import FakeTime


class Site:
    """Three nodes, and time that moves when told to."""

    def __init__(self, folder: Path, hooks: Hooks | None = None, **more: Any) -> None:
        self.time = FakeTime()
        nodes = [Resource(at, "default", f"n-{at}", {"core": at}) for at in (1, 2, 3)]
        self.oar = Oar(folder / "oar.sqlite", nodes, self.time.clock(), hooks=hooks, **more)
        self.run(6)

    def run(self, seconds: float) -> None:
        self.time.run(self.oar, seconds)

    def submit(self, *types: str, nodes: str = "nodes=1", walltime: str = "1", user: str = "jdoe", **more: Any) -> int:
        request = {"resource": f"{nodes},walltime={walltime}", "command": "sleep 10h", "type": list(types), **more}
        return self.oar.submit(user, request).id

    def ahead(self, seconds: float) -> str:
        return date(self.time.now + seconds)

    def job(self, number: int) -> Job:
        found = self.oar.job(number)
        assert found is not None
        return found

    def state(self, number: int) -> str:
        return self.job(number).state

    def states(self, number: int) -> list[str]:
        return [state for state, _ in self.oar.states(number)]

    def events(self, number: int) -> list[str]:
        return [event.type for event in self.job(number).events]

    def last(self) -> Job:
        return self.oar.jobs(Query(limit=1)).jobs[0]


def n(number: int) -> str:
    """A request for one node by its number."""
    return f"{{network_address='n-{number}'}}/nodes=1"
