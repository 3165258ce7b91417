"""The rules of OAR's scheduler as its source has them: who goes before whom, who gives way, who comes again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.lab.oar import Hooks, Job, Oar, Query, Refused, Resource
from g5kdeploy.lab.oar.admission import FORBIDDEN, MISSING
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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.oar.stop()


def n(number: int) -> str:
    return f"{{network_address='n-{number}'}}/nodes=1"


# Reservations against jobs that wait


def test_a_reservation_takes_no_place_of_a_job_of_its_queue_that_is_planned(site: Site) -> None:
    running, waiting = site.submit(nodes="nodes=3"), site.submit(nodes="nodes=3")
    site.run(6)
    end = (site.job(waiting).scheduled_at or 0) + 3600
    with pytest.raises(Refused, match="could run at " + date(end + 61)):
        site.submit(nodes="nodes=1", reservation=date((site.job(running).scheduled_at or 0) + 3700))
    late = site.submit(nodes="nodes=1", reservation=date(end + 61))
    assert site.job(late).scheduled_at == end + 61


def test_a_reservation_takes_the_place_of_jobs_of_lesser_queues_whose_predictions_move(site: Site) -> None:
    site.submit(nodes="nodes=3")
    lesser, besteffort = site.submit(nodes="nodes=3", queue="default"), site.submit("besteffort", nodes="nodes=3")
    site.run(6)
    before = site.job(lesser).scheduled_at or 0
    assert (site.job(besteffort).scheduled_at or 0) > before
    reserved = site.submit(nodes="nodes=3", walltime="0:30", queue="testing", reservation=date(before))
    site.run(6)
    assert site.job(reserved).scheduled_at == before
    assert site.job(lesser).scheduled_at == before + 1800 + 61


def test_a_hole_may_end_where_a_reservation_begins(site: Site) -> None:
    site.submit(nodes="nodes=3", reservation=site.ahead(4000))
    begin = site.last().requested_start
    fits, fits_not = (
        site.submit(f"postpone={date(begin - 660 + late)}", nodes="nodes=2", walltime="0:10") for late in (0, 1)
    )
    site.run(6)
    assert site.job(fits).scheduled_at == begin - 660
    assert (site.job(fits_not).scheduled_at or 0) > begin + 3600


def test_two_reservations_at_once_are_taken_in_their_order(site: Site) -> None:
    site.submit(nodes="nodes=2", reservation=site.ahead(1000))
    with pytest.raises(Refused, match="could run at"):
        site.submit(nodes="nodes=2", reservation=site.ahead(1000))
    assert site.last().message.startswith("This reservation could run at")
    assert site.submit(nodes="nodes=1", reservation=site.ahead(1000))


def test_a_reservation_that_was_held_gets_resources_again_or_not(site: Site) -> None:
    first = site.submit(nodes="nodes=3", reservation=site.ahead(1000))
    site.oar.hold(first, "jdoe")
    site.run(6)
    assert (site.state(first), site.job(first).scheduled_at, site.job(first).predicted) == ("Hold", None, ())
    site.oar.resume(first, "jdoe")
    site.run(6)
    assert site.job(first).message == "Renewed resources for reservation"
    assert site.job(first).scheduled_at == site.job(first).requested_start and len(site.job(first).predicted) == 3
    site.oar.hold(first, "jdoe")
    site.run(6)
    site.submit(nodes="nodes=3")
    site.run(6)
    site.oar.resume(first, "jdoe")
    site.run(70)
    assert site.job(first).message == "No resource for reservation"
    assert site.events(first)[-2:] == ["RESUME_JOB", "UNABLE_TO_GET_RESOURCE_BACK_FOR_RESERVATION"]


# Besteffort


def test_who_has_a_choice_takes_nodes_without_besteffort_jobs(site: Site) -> None:
    low = site.submit("besteffort")
    site.run(6)
    assert site.job(low).nodes == ("n-1",)
    normal, other = site.submit(), site.submit("besteffort")
    site.run(12)
    assert (site.job(normal).nodes, site.job(other).nodes, site.state(low)) == (("n-2",), ("n-3",), "Running")
    far = site.submit(reservation=site.ahead(500))
    assert site.job(far).predicted[0].address == "n-1", "who has which nodes now says nothing of that time"


def test_a_besteffort_job_begins_in_a_hole_that_is_too_short_for_it(site: Site) -> None:
    reserved = site.submit(nodes="nodes=3", reservation=site.ahead(900))
    low, normal = site.submit("besteffort", nodes=n(1)), site.submit()
    site.run(6)
    assert site.state(low) == "Running"
    assert (site.job(normal).scheduled_at or 0) > site.job(reserved).requested_start
    site.time.now = site.job(reserved).requested_start - 200
    late = site.submit("besteffort")
    site.run(62)
    assert (site.job(late).scheduled_at or 0) > site.job(reserved).requested_start, "less than 5 minutes are too few"
    site.run(120)
    assert site.state(low) == "Error", "it makes way in the last minute before"
    site.run(80)
    assert site.state(reserved) == "Running"


def test_nobody_is_launched_while_besteffort_jobs_have_to_go(site: Site) -> None:
    victim, spared = site.submit("besteffort", nodes=n(1)), site.submit("besteffort", nodes=n(2))
    site.run(6)
    wants, other = site.submit(nodes=n(1)), site.submit(nodes=n(3))
    site.run(5)
    assert [site.state(one) for one in (wants, other)] == ["Waiting", "Waiting"]
    site.run(12)
    assert [site.state(one) for one in (victim, spared, wants, other)] == ["Error", "Running", "Running", "Running"]
    assert site.events(victim) == [
        "SCHEDULER_PRIORITY_UPDATED_START", "BESTEFFORT_KILL", "FRAG_JOB_REQUEST", "SEND_KILL_JOB",
        "SWITCH_INTO_ERROR_STATE", "SCHEDULER_PRIORITY_UPDATED_STOP",
    ]  # fmt: skip


def test_besteffort_jobs_do_not_preempt_each_other(site: Site) -> None:
    first, second = site.submit("besteffort", nodes="nodes=3"), site.submit("besteffort", nodes="nodes=3")
    site.run(70)
    assert (site.state(first), site.state(second)) == ("Running", "Waiting")
    assert site.job(second).scheduled_at == site.job(first).started_at + 3600 + 61


@pytest.mark.parametrize(
    ("kind", "command", "again"),
    [
        ("idempotent", "sleep 70; exit 99", True),
        ("idempotent", "sleep 30; exit 99", False),
        ("idempotent", "sleep 70; exit 98", False),
        ("noop", "sleep 70; exit 99", False),
    ],
)
def test_idempotent_jobs_that_ask_for_it_come_again(site: Site, kind: str, command: str, again: bool) -> None:
    number = site.submit(kind, command=command)
    site.run(100)
    last = site.last()
    assert (last.id != number) == again
    if again:
        assert (last.resubmits, last.command, site.state(number)) == (number, command, "Terminated")
        why = "type idempotent & exit code = 99 & duration > 60s"
        assert site.job(number).events[-1].description == (
            f"[NodeChangeState] Resubmiting job {number} => {last.id} ({why})"
        )


@pytest.mark.parametrize(("types", "again"), [(("idempotent",), False), (("besteffort",), False)])
def test_who_is_killed_comes_again_only_as_both(site: Site, types: tuple[str, ...], again: bool) -> None:
    number = site.submit(*types)
    site.run(3)
    site.oar.delete(number, "jdoe")
    site.run(6)
    assert (site.last().id != number) == again


def test_a_timesharing_job_spares_the_besteffort_jobs_that_share_with_it(site: Site) -> None:
    low = site.submit("besteffort", "timesharing=user,*", nodes="nodes=3")
    site.run(6)
    beside = site.submit("timesharing=user,*", nodes="nodes=3")
    site.run(12)
    assert (site.state(low), site.state(beside)) == ("Running", "Running")
    assert site.events(beside) == ["SCHEDULER_PRIORITY_UPDATED_START"]


# When a job may run


def test_a_postponed_job_is_planned_after_that(site: Site) -> None:
    when = site.ahead(1000)
    number = site.submit(f"postpone={when}")
    site.run(6)
    assert date(site.job(number).scheduled_at or 0) == when


@pytest.mark.parametrize("limit", ["expire", "deadline"])
def test_a_job_that_comes_too_late_never_runs(site: Site, limit: str) -> None:
    blocking = site.submit(nodes="nodes=3")
    when = site.ahead(100)
    number = site.submit(f"{limit}={when}")
    site.run(90)
    expected = "FIFO scheduling OK" if limit == "expire" else f"R=1,W=1:0:0,J=B,T={limit}={when}"
    assert (site.state(number), site.job(number).message) == ("Waiting", expected)
    site.run(70)
    assert site.states(number) == ["Waiting", "toError", "Error"]
    assert site.job(number).message == f"Job will never run ({limit}={when}), setting it to error"
    assert site.state(blocking) == "Running"


def test_a_job_is_over_with_its_security_time_by_its_deadline(site: Site) -> None:
    begin = int(site.time.now) + 1
    fits, fits_not = (site.submit(f"deadline={date(begin + 3660 + more)}") for more in (1, -1))
    site.run(6)
    assert (site.state(fits), site.state(fits_not)) == ("Running", "Waiting")
    assert site.job(fits_not).scheduled_at is None


@pytest.mark.parametrize("bad", ["postpone", "expire=tomorrow", "deadline=2026-11-22 7:00", "postpone=2026-11-22 19"])
def test_dates_of_types_have_one_form(site: Site, bad: str) -> None:
    with pytest.raises(Refused) as caught:
        site.submit(bad)
    assert (caught.value.exit_code, caught.value.message) == (
        254,
        f"[ADMISSION RULE] Error: unknown job type: {bad}\n\n",
    )


# Jobs that depend on others


def test_a_job_runs_after_one_that_ended_in_error(site: Site) -> None:
    first = site.submit()
    second = site.submit(anterior=[first])
    site.run(6)
    assert site.job(second).scheduled_at == site.job(first).started_at + 3600 + 120
    site.oar.delete(first, "jdoe")
    site.run(10)
    assert (site.state(first), site.state(second)) == ("Error", "Running")


def test_a_job_cannot_be_planned_before_the_one_that_it_waits_for_is(site: Site) -> None:
    site.submit(nodes="nodes=3")
    low = site.submit("besteffort")
    number = site.submit(anterior=[low])
    site.run(12)
    assert site.job(number).message == f"Cannot determine scheduling time due to dependency with the job {low}"
    assert site.job(number).scheduled_at is None


# Containers


def test_inner_jobs_outlive_their_container_and_keep_their_nodes(site: Site) -> None:
    container = site.submit("container", nodes="nodes=3")
    inner = site.submit(f"inner={container}", nodes="nodes=2", walltime="0:30")
    site.run(3)
    assert site.state(inner) == "Running", "both were planned by one pass"
    site.oar.delete(container, "jdoe")
    outside = site.submit(nodes="nodes=3")
    site.run(20)
    assert (site.state(container), site.state(inner), site.state(outside)) == ("Error", "Running", "Waiting")
    assert site.job(outside).scheduled_at == site.job(inner).started_at + 1800 + 61


def test_inner_jobs_of_a_container_that_waits_or_is_held(site: Site) -> None:
    site.submit(nodes="nodes=3")
    container = site.submit("container", nodes="nodes=3")
    inner = site.submit(f"inner={container}", walltime="0:30")
    site.run(6)
    assert site.job(inner).scheduled_at == site.job(container).scheduled_at, "predicted inside of what is predicted"
    site.oar.hold(container, "jdoe")
    site.run(8)
    why = f"Inner job: container {container} does not exist, inner job will never run, setting it to error"
    assert (site.state(inner), site.job(inner).message) == ("Error", why)


def test_an_inner_job_of_a_lesser_queue_waits_for_its_container(site: Site) -> None:
    container = site.submit("container", "besteffort", nodes="nodes=3")
    number = site.submit(f"inner={container}")
    site.run(1)
    expected = f"Inner job: container {container} is yet to scheduled, inner job not scheduled"
    assert site.job(number).message == expected


def test_inner_reservations_need_a_reserved_container(site: Site) -> None:
    container = site.submit("container", nodes="nodes=2")
    text = "an advance-reservation inner job requires the container to be an advance reservation as well."
    with pytest.raises(Refused, match=text):
        site.submit(f"inner={container}", reservation=site.ahead(500))
    reserved = site.submit("container", nodes="nodes=2", reservation=site.ahead(5000))
    inner = site.submit(f"inner={reserved}", nodes="nodes=2", walltime="0:30", reservation=site.ahead(5010))
    assert site.job(inner).predicted == site.job(reserved).predicted
    site.oar.delete(inner, "jdoe")
    site.run(3)
    with pytest.raises(Refused, match="This reservation cannot run"):
        site.submit(f"inner={reserved}", nodes="nodes=3", reservation=site.ahead(5010))


# Nodes that fail


def silent(*names: str) -> Callable[[Job], list[str]]:
    return lambda job: [name for name in job.nodes if name in names]


def test_a_reservation_begins_on_the_nodes_that_answer(tmp_path: Path) -> None:
    site = Site(tmp_path, Hooks(on_launch=silent("n-1")))
    number = site.submit(nodes="nodes=2", reservation=site.ahead(30))
    site.run(100)
    assert site.state(number) == "Running" and site.job(number).nodes == ("n-1", "n-2")
    assert site.job(number).message == "One or several nodes are not responding correctly"
    assert site.events(number)[-1] == "PING_CHECKER_NODE_SUSPECTED"
    assert [one.state for one in site.oar.resources()] == ["Suspected", "Alive", "Alive"]
    site.oar.stop()


def test_a_reservation_none_of_whose_nodes_answers_is_over(tmp_path: Path) -> None:
    site = Site(tmp_path, Hooks(on_launch=silent("n-1", "n-2")))
    number = site.submit(nodes="nodes=2", reservation=site.ahead(30))
    site.run(100)
    assert site.states(number)[-2:] == ["Launching", "Error"]
    assert [e.description for e in site.job(number).events][-2:] == [
        f"There is no alive node for the reservation {number}.",
        f"[bipbip] OAR suspects nodes for the job {number}: n-1 n-2",
    ]
    assert site.events(number)[-2] == "RESERVATION_NO_NODE"
    assert site.last().id == number, "it does not come again"
    site.oar.stop()


def test_dead_nodes_do_not_end_jobs_that_do_nothing_with_them(site: Site) -> None:
    numbers = [site.submit(kind, nodes=n(1 + at)) for at, kind in enumerate(("noop", "cosystem", "deploy"))]
    site.run(6)
    for at in (1, 2, 3):
        site.oar.set_state(f"n-{at}", "Dead")
    site.run(6)
    assert [site.state(one) for one in numbers] == ["Running", "Running", "Error"]


def test_permissive_jobs_begin_on_nodes_that_are_away(site: Site) -> None:
    site.oar.set_state("n-1", "Absent")
    site.oar.set_state("n-2", "Suspected")
    strict, planned, begun = (site.submit(*types, nodes="nodes=3") for types in ((), ("state=permissive",), ()))
    site.oar.delete(begun, "jdoe")
    begun = site.submit("noop", "state=permissive", nodes=n(1))
    site.run(12)
    assert site.job(strict).message == f"Cannot find enough resources for job {strict} yet"
    assert (site.state(planned), site.job(planned).message) == ("Waiting", "FIFO scheduling OK")
    site.oar.delete(planned, "jdoe")
    site.run(12)
    assert site.state(begun) == "Running"


def test_noop_jobs_have_no_finishing(site: Site) -> None:
    number = site.submit("noop")
    site.run(3)
    site.oar.delete(number, "jdoe")
    site.run(3)
    assert site.states(number) == ["Waiting", "toLaunch", "Launching", "Running", "Terminated"]
    assert site.events(number) == ["FRAG_JOB_REQUEST"]


# Changes of walltimes


def test_a_walltime_grows_up_to_the_next_job_but_for_besteffort_ones(site: Site) -> None:
    number = site.submit("besteffort", nodes="nodes=3")
    behind = site.submit("besteffort", nodes="nodes=3")
    site.run(6)
    assert site.job(behind).scheduled_at
    site.oar.change_walltime(number, "jdoe", "+1")
    site.run(6)
    assert site.job(number).walltime == 7200


def test_a_walltime_grows_exactly_to_the_next_reservation(site: Site) -> None:
    number = site.submit(nodes="nodes=3")
    site.run(6)
    end = site.job(number).started_at + 3600
    site.submit(nodes="nodes=3", reservation=date(end + 660))
    site.oar.change_walltime(number, "jdoe", "+0:10")
    site.run(6)
    assert site.oar.walltime(number).granted == "+0:10:0"
    site.oar.change_walltime(number, "jdoe", "+0:10")
    site.run(6)
    assert site.oar.walltime(number).pending == "+0:10:0", "not a second is left"


def test_masters_may_delay_others_but_no_reservation(site: Site) -> None:
    number, behind = site.submit(nodes="nodes=3"), site.submit(nodes="nodes=3")
    site.run(6)
    with pytest.raises(Refused, match="not allowed to delay other jobs"):
        site.oar.change_walltime(number, "jdoe", "+0:10", delay_next_jobs=True)
    site.oar.change_walltime(number, "root", "+0:10", delay_next_jobs=True)
    site.run(6)
    text = "Walltime changed: 1:10:0 (granted: +0:10:0/pending: 0:0:0/delay next jobs/timeout: 0:0:0)"
    assert site.job(number).events[-1].description == text
    assert site.oar.walltime(number).granted_with_delay_next_jobs == "+0:10:0"
    assert site.job(behind).scheduled_at == site.job(number).started_at + 4200 + 61


def test_a_walltime_does_not_grow_beyond_a_deadline_nor_a_container(site: Site) -> None:
    limited = site.submit(f"deadline={site.ahead(4200)}")
    container = site.submit("container")
    site.run(6)
    inner = site.submit(f"inner={container}", walltime="0:30")
    site.run(6)
    for number in (limited, inner):
        site.oar.change_walltime(number, "jdoe", "+1")
    site.run(6)
    assert site.job(limited).started_at + site.job(limited).walltime == int(site.time.now - 18 + 4200)
    ends = [site.job(one).started_at + site.job(one).walltime for one in (inner, container)]
    assert ends[0] == ends[1]


# Deleting


@pytest.mark.parametrize(
    ("wait", "states", "kills"),
    [
        (0.0, ["Waiting", "Error"], 0),
        (0.6, ["Waiting", "toLaunch", "Launching", "Running", "Finishing", "Error"], 2),
        (2.0, ["Waiting", "toLaunch", "Launching", "Running", "Finishing", "Error"], 1),
    ],
)
def test_a_job_that_is_not_there_yet_is_killed_in_vain_at_first(
    site: Site, wait: float, states: list[str], kills: int
) -> None:
    number = site.submit("deploy")
    site.run(wait)
    site.oar.delete(number, "jdoe")
    site.run(10)
    assert (site.state(number) == "Running") == (kills == 2)
    site.run(30)
    assert site.states(number) == states
    ended = ["SWITCH_INTO_ERROR_STATE"] if kills else []
    assert site.events(number) == ["FRAG_JOB_REQUEST", *kills * ["SEND_KILL_JOB"], *ended]


def test_a_job_that_is_ending_or_held_is_deleted(site: Site) -> None:
    ended, held = site.submit(command="true"), site.submit()
    site.oar.hold(held, "jdoe")
    for _ in range(20):
        if site.state(ended) != "Finishing":
            site.run(0.1)
    assert site.state(ended) == "Finishing"
    for number in (ended, held):
        assert "REGISTERED" in site.oar.delete(number, "jdoe")
    site.run(3)
    assert (site.state(ended), site.events(ended)) == (
        "Terminated",
        ["SWITCH_INTO_TERMINATE_STATE", "FRAG_JOB_REQUEST"],
    )
    assert (site.states(held), site.job(held).message) == (["Waiting", "Hold", "Error"], "Job killed by Leon directly")


# How commands end


@pytest.mark.parametrize(
    ("command", "state", "code"),
    [("exit 3", "Terminated", 768), ("kill -9 $$", "Terminated", 9), ("no-such-command", "Terminated", 127 << 8)],
)
def test_a_job_whose_command_fails_is_terminated(site: Site, command: str, state: str, code: int) -> None:
    number = site.submit(command=command)
    site.run(6)
    assert (site.state(number), site.job(number).exit_code) == (state, code)
    assert site.events(number) == ["SWITCH_INTO_TERMINATE_STATE"]


@pytest.mark.parametrize(
    ("trouble", "kind", "said"),
    [
        (MISSING, "WORKING_DIRECTORY", "Cannot go into the working directory /nowhere of the job on node n-1"),
        (FORBIDDEN, "OUTPUT_FILES", "Cannot create .stdout and .stderr files in /nowhere on the node n-1"),
    ],
)
def test_a_job_that_cannot_be_where_it_is_to_run_is_in_error(
    tmp_path: Path, trouble: str, kind: str, said: str
) -> None:
    site = Site(tmp_path, directories=lambda _user, _path: trouble)
    site.oar.submit("jdoe", {"command": "true", "directory": "/nowhere", "type": "deploy"}, line="oarsub")
    site.run(6)
    job = site.last()
    assert site.states(job.id)[-3:] == ["Running", "Finishing", "Error"] and job.exit_code is None
    ends = [(event.type, event.description) for event in job.events][-2:]
    assert ends == [
        ("SWITCH_INTO_ERROR_STATE", f"[bipbip {job.id}] Ask to change the job state"),
        (kind, f"[bipbip {job.id}] {said}"),
    ]
    site.oar.stop()


def test_of_a_moldable_job_the_alternative_that_is_planned_has_a_start(site: Site) -> None:
    request = {"resource": ["nodes=3,walltime=2", "nodes=1,walltime=1"], "command": "sleep 10h", "hold": True}
    number = site.oar.submit("jdoe", request).id
    site.oar.resume(number, "jdoe")
    site.run(6)
    starts = [job.scheduled_at for job in site.oar.jobs(Query(ids=[number])).jobs]
    assert starts[0] is None and starts[1]


@pytest.mark.parametrize("name", ["type", "cpuset", "State_Num", "besteffort"])
def test_what_the_scheduler_keeps_for_itself_cannot_be_asked_for(site: Site, name: str) -> None:
    with pytest.raises(Refused) as caught:
        site.submit(nodes=f"nodes=1/{name}=1")
    expected = (254, f"[ADMISSION RULE] '{name}' resource is not allowed\n\n")
    assert (caught.value.exit_code, caught.value.message) == expected
