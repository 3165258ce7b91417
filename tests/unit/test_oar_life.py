"""The life of jobs under trouble: hooks, restarts, dead nodes, walltimes, containers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from g5kdeploy.base.clock import Clock
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.oar import Command, DirectoryMissing, Hooks, Job, Oar, Query, Refused, Resource
from g5kdeploy.lab.oar.commands import Played

START = 1_795_365_000.0


class World:
    def __init__(self, folder: Path, hooks: Hooks | None = None) -> None:
        self.now = START
        self.folder = folder
        self.hooks = hooks
        self.oar = self.open()

    def open(self) -> Oar:
        return Oar(self.folder / "oar.sqlite", site(), self.clock(), hooks=self.hooks)

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, seconds: float, step: float = 0.1) -> None:
        until = self.now + seconds
        while self.now < until:
            self.oar.tick()
            self.now = min(until, self.now + step)
        self.oar.tick()

    def restart(self) -> None:
        """A new process on the old one's store."""
        self.oar.stop()
        self.oar = self.open()

    def submit(self, resource: str = "nodes=1,walltime=0:10", command: str = "sleep 1000", **more: object) -> int:
        request: dict[str, object] = {"resource": resource, "command": command, "type": ["deploy"]}
        return self.oar.submit("jdoe", request | more).id

    def job(self, number: int) -> Job:
        job = self.oar.job(number)
        assert job is not None
        return job

    def events(self, number: int) -> list[str]:
        return [event.type for event in self.job(number).events]


def site() -> list[Resource]:
    nodes = [Resource(i, "default", f"n-{i}", {"cluster": "n", "core": i}) for i in range(1, 5)]
    disks = [
        Resource(4 + i, "disk", f"n-{i}", {"cluster": "n", "disk": f"sdb.n-{i}", "host": f"n-{i}"}) for i in (1, 2)
    ]
    return [
        *nodes,
        *disks,
        Resource(7, "kavlan", "", {"vlan": "4"}),
        Resource(8, "subnet", "", {"slash_22": "10.0.0.0/22"}),
    ]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_disks_vlans_and_subnets(world: World) -> None:
    number = world.submit("{type='disk'}/disk=1+{type='kavlan'}/vlan=1+{type='subnet'}/slash_22=1+nodes=1,walltime=1")
    world.run(2)
    assert [r.type for r in world.job(number).assigned] == ["default", "disk", "kavlan", "subnet"]
    assert world.job(number).nodes == ("n-1",)
    with pytest.raises(Refused, match="not enough resources"):
        world.submit("slash_22=1")


def test_a_restart_at_any_moment_changes_nothing(tmp_path: Path) -> None:
    """Restarted every half a second, a job's story is the one that it has without."""

    def story(folder: Path, restarts: bool) -> tuple[list[str], list[str], int | None]:
        world = World(folder)
        number = world.submit(command="sleep 7; exit 3")
        for _ in range(40):
            world.run(0.5)
            if restarts:
                world.restart()
        job = world.job(number)
        states = [state for state, _ in world.oar.states(number)]
        world.oar.stop()
        return states, [e.type for e in job.events], job.exit_code

    plain = story(tmp_path / "a", False)
    assert plain == story(tmp_path / "b", True)
    assert plain == (
        ["Waiting", "toLaunch", "Launching", "Running", "Finishing", "Terminated"],
        ["SWITCH_INTO_TERMINATE_STATE"],
        768,
    )


def test_a_job_outlives_the_scheduler(world: World) -> None:
    number = world.submit("nodes=1,walltime=0:5")
    world.run(2)
    world.oar.stop()
    world.now += 400
    world.oar = world.open()
    world.run(15)
    assert world.job(number).state == "Error"
    assert "WALLTIME" in world.events(number)


def test_node_states_are_kept(world: World) -> None:
    world.oar.set_state("n-1", "Dead")
    world.restart()
    assert [r.state for r in world.oar.resources() if r.address == "n-1"] == ["Dead", "Dead"]
    with pytest.raises(KeyError):
        world.oar.set_state("n-9", "Alive")
    with pytest.raises(ValueError, match="no state"):
        world.oar.set_state("n-1", "Gone")  # type: ignore[arg-type]


def test_standby_nodes_are_used_and_absent_ones_not(world: World) -> None:
    for address, state in (("n-1", "Standby"), ("n-2", "Absent"), ("n-3", "Suspected"), ("n-4", "Absent")):
        world.oar.set_state(address, state)  # type: ignore[arg-type]
    first, second = world.submit(), world.submit()
    world.run(10)
    assert world.job(first).nodes == ("n-1",)
    assert world.job(first).assigned[0].state == "Alive", "it was switched on for the job"
    assert world.job(second).state == "Waiting"
    world.oar.set_state("n-2", "Alive")
    world.run(10)
    assert world.job(second).nodes == ("n-2",)


def test_an_absent_node_kills_its_job(world: World) -> None:
    number = world.submit()
    world.run(2)
    world.oar.set_state("n-1", "Absent")
    world.run(3)
    assert world.job(number).state == "Error"
    assert world.job(number).events[0].description == f"User root requested to frag the job {number}"


def test_hooks_have_their_moments(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def note(name: str) -> Callable[[Job], None]:
        return lambda job: seen.append((name, job.state))

    def run(job: Job, again: bool) -> Command:
        seen.append(("run again" if again else "run", job.state))
        return Played(world.clock(), world.now + 5, 0)

    world = World(tmp_path, Hooks(on_launch=note("launch"), on_end=note("end"), run_command=run))
    number = world.submit()
    world.run(3)
    world.restart()
    world.run(10)
    assert seen == [("launch", "Launching"), ("run", "Running"), ("run again", "Running"), ("end", "Finishing")]
    assert world.job(number).state == "Terminated"


def test_a_missing_directory_ends_the_job(tmp_path: Path) -> None:
    def run(_job: Job, _again: bool) -> Command:
        raise DirectoryMissing

    world = World(tmp_path, Hooks(run_command=run))
    number = world.submit(directory="/nowhere")
    world.run(3)
    assert world.job(number).state == "Error"
    assert world.events(number) == ["SWITCH_INTO_ERROR_STATE", "WORKING_DIRECTORY"]


def test_a_failing_hook_is_a_node_that_does_not_answer(tmp_path: Path) -> None:
    def launch(job: Job) -> None:
        if job.nodes == ("n-1",):
            raise OSError("no such machine")

    world = World(tmp_path, Hooks(on_launch=launch))
    number = world.submit(type=[])
    world.run(12)
    assert world.job(number).state == "Error"
    assert [r.state for r in world.oar.resources() if r.id == 1] == ["Suspected"]
    again = world.oar.jobs(Query()).jobs[0]
    assert (again.resubmits, again.nodes) == (number, ("n-2",))
    world.oar.set_state("n-1", "Alive")
    deployed = world.submit()
    world.run(12)
    assert world.events(deployed) == ["PING_CHECKER_NODE_SUSPECTED"], "whose command is on the frontend comes not again"


def test_noop_jobs_end_well_at_their_walltime(world: World) -> None:
    number = world.submit("nodes=1,walltime=0:0:20", type=["noop"])
    world.run(45)
    assert (world.job(number).state, world.job(number).message) == ("Terminated", "NOOP job killed by Leon")
    assert "WALLTIME" in world.events(number)


def test_inner_jobs_live_in_their_container(world: World) -> None:
    container = world.submit("nodes=2,walltime=0:10", type=["container", "noop"])
    world.run(2)
    inner = world.submit("nodes=2,walltime=0:2", type=[f"inner={container}"], command="sleep 3")
    too_big = world.submit("nodes=3,walltime=0:2", type=[f"inner={container}"])
    world.run(12)
    assert world.job(inner).state == "Terminated"
    assert set(world.job(inner).nodes) <= set(world.job(container).nodes)
    assert world.job(too_big).message == f"Cannot find enough resources for job {too_big} yet"
    world.oar.delete(container, "jdoe")
    world.run(15)
    assert world.job(too_big).state == "Error"


def test_deleting_is_asked_once(world: World) -> None:
    number = world.submit(command="sleep 1")
    world.run(5)
    assert world.job(number).state == "Terminated"
    assert "REGISTERED" in world.oar.delete(number, "jdoe")
    with pytest.raises(Refused, match="already killed"):
        world.oar.delete(number, "jdoe")
    assert world.job(number).state == "Terminated"
    for unknown, user in ((number, "other"), (999, "jdoe")):
        with pytest.raises(Refused, match="You are not the right user"):
            world.oar.delete(unknown, user)


@pytest.mark.parametrize("wait", [0.0, 0.55, 0.75, 1.0])
def test_deleting_in_any_state(world: World, wait: float) -> None:
    number = world.submit()
    world.run(wait)
    world.oar.delete(number, "root")
    world.run(35)
    assert world.job(number).state == "Error"
    assert not world.oar.current()


def test_a_reservation_loses_a_node(world: World) -> None:
    number = world.submit("nodes=2,walltime=0:10", reservation="2026-11-22 17:32:00")
    lost = world.job(number).predicted[0].address
    world.oar.set_state(lost, "Absent")
    world.run(500, step=1.0)
    job = world.job(number)
    assert job.state == "Running" and len(job.nodes) == 1
    assert job.message.startswith("R=1,")
    kinds = world.events(number)
    assert kinds.index("SCHEDULER_REDUCE_NB_NODES_FOR_RESERVATION") < kinds.index("REDUCE_RESERVATION_WALLTIME")
    assert job.started_at + job.walltime == job.requested_start + 600


def test_a_reservation_that_never_gets_its_nodes(world: World) -> None:
    number = world.submit("nodes=1,walltime=0:10", reservation="2026-11-22 17:32:00")
    world.oar.set_state(world.job(number).predicted[0].address, "Absent")
    world.run(1000, step=1.0)
    assert world.job(number).message == "Reservation expired and couldn't be started."


def test_refused_reservations_leave_a_row(world: World) -> None:
    world.submit("nodes=4,walltime=1")
    world.run(3)
    with pytest.raises(Refused) as caught:
        world.submit("nodes=1,walltime=0:10", reservation="2026-11-22 17:40:00")
    assert "# Reservation not valid --> KO (This reservation could run at 2026-11-22 18:31:0" in caught.value.message
    job = world.oar.jobs(Query(limit=1)).jobs[0]
    assert job.state == "Error" and job.message.startswith("This reservation could run at")
    assert job.stopped_at == job.started_at == job.requested_start


def test_walltime_changes_are_granted_by_a_pass(world: World) -> None:
    number = world.submit()
    with pytest.raises(Refused, match="is not running"):
        world.oar.change_walltime(number, "jdoe", "+0:10")
    assert world.oar.walltime(number).walltime is None
    world.run(3)
    assert "accepted" in world.oar.change_walltime(number, "jdoe", "+0:10")
    assert world.oar.walltime(number).pending == "+0:10:0"
    world.run(10)
    status = world.oar.walltime(number)
    assert (status.walltime, status.granted, status.pending, status.whole) == ("0:20:0", "+0:10:0", "0:0:0", "NO")
    assert world.job(number).walltime == 1200
    with pytest.raises(Refused) as caught:
        world.oar.change_walltime(404, "jdoe", "+1")
    assert caught.value.status == 404


def test_a_whole_change_waits_for_all_of_it(world: World) -> None:
    number = world.submit("nodes=4,walltime=0:10")
    world.run(3)
    behind = world.submit("nodes=4,walltime=0:10")
    world.run(10)
    world.oar.change_walltime(number, "jdoe", "+0:10", whole=True, timeout=30)
    world.run(10)
    assert world.oar.walltime(number).pending == "+0:10:0"
    world.run(60)
    assert "WALLTIME_REQUEST_CANCELLATION" in world.events(number)
    assert world.job(behind).state == "Waiting"


def test_listings(world: World) -> None:
    plain = world.submit(name="a")
    moldable = world.oar.submit("other", {"resource": ["nodes=1", "nodes=2,walltime=2"], "command": "sleep 1"}).id
    listing = world.oar.jobs(Query())
    assert [(job.id, job.walltime) for job in listing.jobs] == [(moldable, 3600), (moldable, 7200), (plain, 600)]
    assert listing.total == 3
    assert world.oar.jobs(Query(limit=1, offset=1)).jobs[0].walltime == 7200
    assert [job.id for job in world.oar.jobs(Query(users=["jdoe"], names=["a"], states=["Waiting"])).jobs] == [plain]
    assert world.oar.jobs(Query(states=[])).total == 0
    assert world.oar.jobs(Query(limit=0)).jobs == ()
    assert world.oar.job(99) is None


def test_a_store_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "oar.sqlite").write_text("this is no database, but long enough to be taken for one" * 20)
    with pytest.raises(Problem, match="cannot be used"):
        Oar(tmp_path / "oar.sqlite", site())


@contextlib.contextmanager
def running(folder: Path, hooks: Hooks | None = None) -> Iterator[Oar]:
    """A scheduler on real time, as fast as it goes."""
    oar = Oar(folder / "oar.sqlite", site(), pace=1000.0, hooks=hooks)
    oar.start()
    try:
        yield oar
    finally:
        oar.stop()


def wait_for(what: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(6000):
        if what():
            return
        waited.wait(0.01)
    raise AssertionError("it did not happen within a minute")


def test_on_real_time_with_threads(tmp_path: Path) -> None:
    """Slow hooks hold up their own job alone."""
    gate = threading.Event()

    def launch(job: Job) -> None:
        if job.name == "slow":
            gate.wait(60)

    with running(tmp_path, Hooks(on_launch=launch)) as oar:
        slow = oar.submit("jdoe", {"resource": "nodes=1", "command": "true", "name": "slow"}).id
        quick = oar.submit("jdoe", {"resource": "nodes=1", "command": "exit 2"}).id
        wait_for(lambda: getattr(oar.job(quick), "state", "") == "Terminated")
        assert getattr(oar.job(slow), "state", "") in ("toLaunch", "Launching")
        gate.set()
        wait_for(lambda: getattr(oar.job(slow), "state", "") == "Terminated")
        job = oar.submit("jdoe", {"resource": "nodes=1,walltime=0:1", "command": "true", "reservation": "now"})
        assert (job.state, job.reservation) in (("Waiting", "Scheduled"), ("toLaunch", "Scheduled")) or job.assigned
        with pytest.raises(Refused, match="Reservation too old"):
            oar.submit("jdoe", {"resource": "nodes=1", "command": "true", "reservation": "2020-01-01 00:00:00"})
