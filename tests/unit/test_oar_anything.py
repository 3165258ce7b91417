"""Whatever users, masters and nodes do, in whatever order: no step fails, and no two strangers have one resource."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from g5kdeploy.lab.oar import Hooks, Job, NodeState, Oar, Refused, Resource
from g5kdeploy.lab.oar.text import date
from tests.contract.oar_player import FakeTime

NODES = 3
HOLDING = ("toLaunch", "Launching", "Running", "Finishing")
KINDS = (
    "deploy", "besteffort", "idempotent", "container", "noop", "cosystem", "timesharing=user,*", "state=permissive",
    "inner", "postpone", "deadline", "expire",
)  # fmt: skip
COMMANDS = ("sleep 10h", "sleep 70; exit 99", "exit 3", "kill -9 $$")
STATES: tuple[NodeState, ...] = ("Alive", "Absent", "Suspected", "Dead", "Standby")


class World:
    """A small site that restarts now and then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.time, self.jobs = folder, FakeTime(), [0]
        self.silent: set[str] = set()
        self.open()

    def open(self) -> None:
        resources = [Resource(at, "default", f"n-{at}", {"core": at}) for at in range(1, NODES + 1)]
        hooks = Hooks(on_launch=lambda job: self.silent & {*job.nodes})
        self.oar = Oar(self.folder / "oar.sqlite", resources, self.time.clock(), hooks=hooks)

    def submit(self, choose: Callable[[int], int]) -> None:
        kinds = {KINDS[choose(len(KINDS))] for _ in range(choose(4))}
        values = {"inner": str(self.jobs[choose(len(self.jobs))])}
        values |= dict.fromkeys(("postpone", "deadline", "expire"), date(self.time.now + choose(600) - 50))
        request: dict[str, object] = {
            "resource": f"nodes={1 + choose(NODES)},walltime=0:0:{1 + choose(400)}",
            "command": COMMANDS[choose(len(COMMANDS))],
            "type": [f"{kind}={values[kind]}" if kind in values else kind for kind in sorted(kinds)],
        }
        more = choose(6)
        if more == 0:
            request["reservation"] = date(self.time.now + choose(400) - 30)
        elif more == 1:
            request["anterior"] = [self.jobs[choose(len(self.jobs))]]
        elif more == 2:
            request["hold"] = True
        self.jobs.append(self.oar.submit(("jdoe", "asmith")[choose(2)], request).id)

    def act(self, choose: Callable[[int], int]) -> None:
        job, user, oar = self.jobs[choose(len(self.jobs))], ("jdoe", "asmith", "root")[choose(3)], self.oar
        node = f"n-{1 + choose(NODES)}"
        what = choose(9)
        if what == 0:
            oar.delete(job, user)
        elif what == 1:
            oar.hold(job, user)
        elif what == 2:
            oar.resume(job, user)
        elif what == 3:
            change = ("+0:1", "-0:1", "1:0")[choose(3)]
            oar.change_walltime(job, user, change, whole=bool(choose(2)), delay_next_jobs=bool(choose(2)))
        elif what == 4:
            oar.signal(job, user, (None, "USR1", "nonsense")[choose(3)])
        elif what == 5:
            self.jobs.append(oar.resubmit(job, user).id)
        elif what == 6:
            oar.set_state(node, STATES[choose(len(STATES))])
        elif what == 7:
            self.silent ^= {node}
        else:
            oar.stop()
            self.open()

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.oar.tick()
            self.time.now += 1
        self.check()

    def check(self) -> None:
        holding = [job for job in self.oar.current() if job.state in HOLDING]
        for at, job in enumerate(holding):
            for other in holding[at + 1 :]:
                assert strangers_apart(job, other), f"{job} and {other}"


def strangers_apart(one: Job, other: Job) -> bool:
    """Whether two jobs have nothing in common, or may have."""
    kinds = {*one.types, *other.types}
    inside = any(kind.startswith("inner=") for kind in kinds)
    sharing = all("timesharing=user,*" in job.types for job in (one, other)) and one.user == other.user
    return inside or sharing or not {r.id for r in one.assigned} & {r.id for r in other.assigned}


@settings(max_examples=25)
@given(st.data())
def test_anything_may_happen(data: st.DataObject) -> None:
    def choose(count: int) -> int:
        return data.draw(st.integers(0, count - 1))

    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for _ in range(data.draw(st.integers(5, 30))):
            with contextlib.suppress(Refused):
                (world.submit, world.submit, world.act)[choose(3)](choose)
            world.run((0, 1, 6, 70)[choose(4)])
        world.oar.stop()
