"""What must hold whatever is submitted: nobody twice on a node, nobody too early, nobody delayed by those behind."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.oar import Job, Oar, Query, Refused, Resource
from g5kdeploy.lab.oar.gantt import Gantt
from g5kdeploy.lab.oar.inventory import Tree, Wish
from g5kdeploy.lab.oar.text import date

NODES = 4
START = 1_795_365_000.0


@dataclass
class Submission:
    after: int
    nodes: int
    walltime: int
    runs: int
    kind: str
    ahead: int


SUBMISSIONS = st.lists(
    st.builds(
        Submission,
        after=st.integers(0, 90),
        nodes=st.integers(1, NODES),
        walltime=st.integers(1, 400),
        runs=st.integers(0, 500),
        kind=st.sampled_from(["batch", "batch", "besteffort", "reservation", "deleted"]),
        ahead=st.integers(-20, 600),
    ),
    min_size=1,
    max_size=12,
)


def small_site() -> list[Resource]:
    return [
        Resource(2 * node + core + 1, "default", f"n-{node + 1}", {"cluster": "n", "core": 2 * node + core})
        for node in range(NODES)
        for core in range(2)
    ]


class World:
    """A scheduler on its own time, watched at every step."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.oar = Oar(folder / "oar.sqlite", small_site(), Clock(lambda: self.now, lambda: self.now, self.sleep))
        self.holders: dict[str, int] = {}
        self.first_promise: dict[int, int] = {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, seconds: float, step: float = 1.0) -> None:
        until = self.now + seconds
        while self.now < until:
            self.oar.tick()
            self.check()
            self.now = min(self.now + step, until)

    def check(self) -> None:
        held: dict[int, int] = {}
        for job in self.oar.current():
            if job.state in ("toLaunch", "Launching", "Running", "Finishing"):
                for resource in job.assigned:
                    assert resource.id not in held, f"jobs {held[resource.id]} and {job.id} share {resource}"
                    held[resource.id] = job.id
                assert job.started_at >= job.submitted_at
                if job.reservation != "None":
                    assert job.started_at >= job.requested_start

    def submit(self, wanted: Submission) -> None:
        request: dict[str, object] = {
            "resource": f"nodes={wanted.nodes},walltime=0:0:{wanted.walltime}",
            "command": f"sleep {wanted.runs}",
            "type": ["deploy", "besteffort"] if wanted.kind == "besteffort" else ["deploy"],
        }
        if wanted.kind == "reservation":
            request["reservation"] = date(self.now + wanted.ahead)
        allowed = contextlib.suppress(Refused) if wanted.kind == "reservation" else contextlib.nullcontext()
        with allowed:
            self._submit(wanted, request)

    def _submit(self, wanted: Submission, request: dict[str, object]) -> None:
        job = self.oar.submit("jdoe", request)
        if wanted.kind == "deleted":
            self.oar.delete(job.id, "jdoe")


@settings(max_examples=25)
@given(SUBMISSIONS)
def test_nobody_shares_and_everybody_ends(submissions: list[Submission]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for submission in submissions:
            world.run(submission.after)
            world.submit(submission)
        for _ in range(200):
            world.run(60, step=5.0)
            if not world.oar.current():
                break
        assert not world.oar.current()
        jobs = world.oar.jobs(Query()).jobs
        assert {job.state for job in jobs} <= {"Terminated", "Error"}
        for job in jobs:
            if job.started_at and job.assigned:
                assert len(job.nodes) in range(1, NODES + 1)
                assert job.stopped_at - job.started_at <= job.walltime + 30
        world.oar.stop()


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, NODES), st.integers(1, 900)), min_size=2, max_size=14))
def test_who_came_first_is_not_delayed(wishes: list[tuple[int, int]]) -> None:
    """The plan of the first k jobs is the same, whoever comes after them."""

    def plan(count: int) -> list[tuple[int | None, tuple[int, ...]]]:
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder))
            for nodes, walltime in wishes[:count]:
                world.submit(Submission(0, nodes, walltime, 10_000, "batch", 0))
            world.run(2)
            jobs = sorted(world.oar.current(), key=lambda job: job.id)
            world.oar.stop()
            return [(job.scheduled_at, tuple(r.id for r in job.resources)) for job in jobs]

    whole = plan(len(wishes))
    for count in range(1, len(wishes)):
        assert plan(count) == whole[:count]
    ends: list[tuple[int, int, tuple[int, ...]]] = []
    for (start, resources), (_, walltime) in zip(whole, wishes, strict=True):
        assert start is not None
        for other_start, other_end, other in ends:
            if set(other) & set(resources):
                assert start > other_end or start + walltime + 60 <= other_start
        ends.append((start, start + walltime + 60, resources))


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 100), st.integers(0, 255)), max_size=8),
    st.integers(0, 250),
    st.integers(1, 120),
    st.integers(1, 8),
)
def test_the_first_hole_is_the_first(
    taken: list[tuple[int, int, int]], earliest: int, seconds: int, wanted: int
) -> None:
    """Against a second-by-second search."""
    gantt = Gantt(0, 255)
    free = [255] * 800
    for start, length, mask in taken:
        gantt.occupy(start, length, mask)
        for second in range(start, start + length + 1):
            free[second] &= ~mask
    branches = tuple(Tree(1 << bit, 1) for bit in range(8))
    hole = gantt.first_hole(earliest, seconds, Wish((Tree(255, wanted, wanted, branches),)))
    for moment in range(earliest, 500):
        common = 255
        for second in range(moment, moment + seconds):
            common &= free[second]
        if common.bit_count() >= wanted:
            assert hole is not None and hole[0] == moment
            assert hole[1] & ~common == 0 and hole[1].bit_count() == wanted
            return
    raise AssertionError("there is always a hole at the end")


def test_short_jobs_go_before_a_big_one(tmp_path: Path) -> None:
    """Backfilling: a job that ends in time takes the nodes that a big one cannot use yet."""
    world = World(tmp_path)
    for nodes, walltime in ((2, 600), (4, 600), (2, 300), (2, 700)):
        world.submit(Submission(0, nodes, walltime, 10_000, "batch", 0))
    world.run(4)
    first, big, short, long = sorted(world.oar.current(), key=lambda job: job.id)
    assert first.state == short.state == "Running"
    assert big.scheduled_at == first.started_at + 600 + 61
    assert long.scheduled_at == big.scheduled_at + 600 + 61
    assert set(first.nodes) | set(short.nodes) == {"n-1", "n-2", "n-3", "n-4"}


def test_an_early_end_brings_the_next_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.submit(Submission(0, 4, 600, 30, "batch", 0))
    world.submit(Submission(0, 4, 600, 30, "batch", 0))
    world.run(45)
    jobs: tuple[Job, ...] = world.oar.jobs(Query()).jobs
    second, first = jobs
    assert first.state == "Terminated" and second.state == "Running"
    assert second.started_at - first.stopped_at <= 6
