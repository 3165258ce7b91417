"""Reserving, waiting, attaching and letting go, on the lab's real API and scheduler under a clock turned by hand."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from g5kdeploy.base.clock import Clock
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.events.event import State
from g5kdeploy.events.failure import ExitCode, InvalidUse, NoResources, NotAllowed, TimeOver, exit_code
from g5kdeploy.testbed import credentials, inventory
from g5kdeploy.testbed import reservations as r
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.problems import ApiProblem, JobOver
from g5kdeploy.testbed.records import RecordState
from g5kdeploy.testbed.request import RoleNodes, paris
from g5kdeploy.testbed.waiting import wait_all
from tests.contract.testbed_world import World, a_request, nodes

JOBS = "/sites/lab/jobs"
ONE_JOB = r"/jobs/\d+$"


def test_reserve_wait_and_release(world: World) -> None:
    reservation = world.reserve()
    assert reservation.nodes == ()
    job = world.lab.oar.current()[0]
    assert job.name == reservation.record.name
    assert set(job.types) == {"deploy", "origin=g5kdeploy"}
    assert job.walltime == 3600
    running = world.wait(reservation)
    assert len(running.nodes) == 2
    assert running.job.ends_at is not None
    roles = r.assign(world.api, running, world.deadline())
    assert roles == {"server": running.nodes[:1], "client": running.nodes[1:]}
    released = world.release(reservation.record.name)
    assert released.state is RecordState.RELEASED
    assert "jdoe deleted it" in released.outcome
    assert world.live() == []
    assert world.records.unreleased() == []
    world.release(reservation.record.name)
    assert world.count("DELETE", "") == 1


def test_the_same_run_finds_its_job_again(world: World) -> None:
    first = world.reserve()
    assert world.reserve().job.id == first.job.id
    assert world.posts() == 1
    assert world.reserve(a_request(run="run-2")).job.id != first.job.id


def test_a_run_whose_job_is_over_gets_a_new_one(world: World) -> None:
    first = world.running()
    world.lab.oar.delete(first.job.id, "jdoe")
    world.lab.advance(60)
    second = world.reserve()
    assert second.job.id != first.job.id
    record = world.records.get(first.record.name)
    assert record is not None
    assert "jdoe deleted it" in record.outcome


@pytest.mark.parametrize("fault", [{"lost": True}, {"cut": 40}])
def test_a_lost_answer_is_looked_up_and_not_submitted_twice(world: World, fault: dict[str, Any]) -> None:
    world.lab.faults.order(method="POST", **fault)
    reservation = world.reserve()
    assert world.posts() == 1
    assert world.live() == [reservation.job.id]
    assert any(event.state is State.WARNING and "by its name" in event.detail for event in world.events)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_submission_that_never_arrived_is_sent_again_after_a_look(world: World, status: int) -> None:
    world.lab.faults.answer(status, method="POST")
    reservation = world.reserve()
    assert world.posts() == 2
    assert world.count("GET", "name=g5kdeploy-") > 2
    assert world.live() == [reservation.job.id]


def test_a_lasting_silence_leaves_a_record_that_finds_the_job(world: World) -> None:
    world.lab.faults.order(method="POST", lost=True, execute=False, times=10)
    with pytest.raises(ApiProblem) as caught:
        world.reserve()
    assert exit_code(caught.value) == ExitCode.FAILED
    assert world.posts() == 2
    world.lab.faults.clear()
    [record] = world.records.unreleased()
    assert record.state is RecordState.ASKED
    late = world.by_hand(name=record.name)
    assert world.live() == [late]
    assert world.release(record.name).released
    assert world.live() == []


def test_a_first_submission_that_turns_up_after_the_second_is_deleted(world: World) -> None:
    nothing = json.dumps({"total": 0, "offset": 0, "items": [], "links": []})
    world.lab.faults.lose_answer()
    hidden = world.lab.faults.order(path="name=g5kdeploy", status=200, body=nothing, type="application/json", times=100)
    kept = world.api.post

    def post(path: str, body: Any, deadline: Deadline) -> Any:
        answer = kept(path, body, deadline)
        hidden.times = 0
        return answer

    world.api.post = post  # type: ignore[method-assign]
    reservation = world.reserve()
    world.lab.advance(30)
    assert world.posts() == 2
    assert world.live() == [reservation.job.id]
    assert any("arrived as well" in event.detail for event in world.events)


def test_what_was_never_answered_nor_arrived_is_released(world: World) -> None:
    record = world.records.ask(a_request(), world.api.uri)
    assert "knows no job" in world.release(record.name).outcome
    assert world.lab.hand.now >= record.asked_at + 29


def test_an_unanswered_request_is_asked_again_under_its_name(world: World) -> None:
    record = world.records.ask(a_request(), world.api.uri)
    assert world.reserve().record.name == record.name
    assert world.posts() == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"roles": nodes(9)}, "the site has not that many nodes of this kind"),
        ({"roles": (RoleNodes("s", 1, properties="bogus = 1"),)}, "no property or resource named bogus"),
        ({"queue": "nope"}, "queue 'nope' does not exist"),
        ({"types": ("nonsense",)}, "nonsense"),
    ],
)
def test_a_refusal_is_told_in_a_sentence(world: World, more: dict[str, Any], words: str) -> None:
    with pytest.raises(NoResources) as caught:
        world.reserve(a_request(**more))
    assert exit_code(caught.value) == ExitCode.NO_RESOURCES
    assert words in caught.value.cause
    assert "{" not in caught.value.cause
    assert world.posts() == 1
    assert world.records.unreleased() == []


def test_a_refused_reservation_says_when_it_could_run(world: World) -> None:
    world.running(a_request(roles=nodes(4)))
    with pytest.raises(NoResources, match=r"could run at 2026-11-24 1\d:") as caught:
        world.reserve(a_request(run="run-2", at=world.lab.hand.now + 600))
    assert "(Paris time)" in caught.value.hint
    assert len(world.live()) == 1


def test_a_refused_reservation_whose_answer_was_lost(world: World) -> None:
    world.lab.faults.lose_answer()
    with pytest.raises(NoResources, match=r"has passed|too old"):
        world.reserve(a_request(at=world.lab.hand.now - 100_000))
    assert world.posts() == 1
    assert world.records.unreleased() == []


def test_an_advance_reservation(world: World) -> None:
    at = world.lab.hand.now + 1800
    reservation = world.reserve(a_request(at=at))
    assert reservation.job.started_at is None
    running = world.wait(reservation)
    assert running.job.started_at is not None
    assert at <= running.job.started_at <= at + 70
    assert paris(at) == "2026-11-24 10:30:00"


@pytest.mark.parametrize(
    "kinds",
    [("deploy", "destructive"), ("night",), ("day",), ("monitor=prom_.*",), ("deploy", "exotic"), ("besteffort",)],
)
def test_job_types_reach_the_site(world: World, kinds: tuple[str, ...]) -> None:
    job = world.reserve(a_request(types=kinds)).job
    assert {*kinds, "origin=g5kdeploy"} <= set(job.types)
    assert job.queue == ("besteffort" if "besteffort" in kinds else "default")


def test_a_job_inside_another(world: World) -> None:
    outer = world.running(a_request(roles=nodes(4), types=("cosystem", "container"), walltime=7200))
    inner = world.running(a_request(run="run-2", types=("deploy", f"inner={outer.job.id}")))
    assert set(inner.nodes) <= set(outer.nodes)
    with pytest.raises(NoResources, match="invalid container"):
        world.reserve(a_request(run="run-3", types=("deploy", f"inner={inner.job.id}")))


def test_not_allowed_and_an_unknown_site(world: World) -> None:
    world.lab.faults.answer(403, method="POST", body="You are not authorized to access this resource")
    with pytest.raises(NotAllowed, match="not authorized"):
        world.reserve()
    with pytest.raises(InvalidUse, match="has no site"):
        world.reserve(a_request(site="nope"))
    assert world.records.unreleased() == []


def test_an_api_that_is_down(world: World) -> None:
    world.lab.down()
    with pytest.raises(ApiProblem) as caught:
        world.reserve()
    assert exit_code(caught.value) == ExitCode.FAILED
    assert world.lab.url in caught.value.what
    assert world.records.unreleased() == []


def test_a_wait_of_an_hour_costs_few_requests(world: World) -> None:
    world.running(a_request(roles=nodes(4), walltime=3500))
    reservation = world.reserve(a_request(run="run-2"))
    before = world.count("GET", ONE_JOB)
    running = world.wait(reservation)
    assert world.count("GET", ONE_JOB) - before <= 20
    assert running.job.started_at is not None
    assert world.lab.hand.now - running.job.started_at <= 25
    assert any("predicted start" in event.detail for event in world.events)


def test_a_start_that_is_heard_of_is_seen_at_once(world: World) -> None:
    """Half an hour before its prediction, and without a request more than that costs."""
    blocker = world.running(a_request(roles=nodes(4), walltime=3500))
    reservation = world.reserve(a_request(run="run-2"))
    bell = threading.Event()
    began: list[float] = []

    def hear(seconds: float) -> None:
        world.lab.advance(seconds)
        if not began and world.lab.hand.now > blocker.job.submitted_at + 1000:
            world.lab.oar.delete(blocker.job.id, "jdoe")
            world.lab.advance(20)
            began.append(world.lab.hand.now)
            bell.set()

    clock = replace(world.lab.clock, sleep=hear)
    before = world.count("GET", f"/jobs/{reservation.job.id}$")
    [running] = wait_all(
        world.api, [reservation], world.records, Deadline.after(7200, "the test", clock), world.emit, bell
    )
    assert running.job.running
    assert world.lab.hand.now - began[0] <= 10
    assert world.count("GET", f"/jobs/{reservation.job.id}$") - before <= 10
    assert not bell.is_set()


def test_a_job_that_is_deleted_before_it_runs(world: World) -> None:
    world.running(a_request(roles=nodes(4)))
    reservation = world.reserve(a_request(run="run-2"))
    world.lab.oar.delete(reservation.job.id, "jdoe")
    with pytest.raises(JobOver, match="jdoe deleted it"):
        world.wait(reservation)
    assert len(world.records.unreleased()) == 1


def test_the_end_of_the_walltime_is_told(world: World) -> None:
    reservation = world.running(a_request(walltime=60))
    world.lab.advance(300)
    again = r.resume(world.api, reservation.record, world.records, world.deadline())
    assert again is not None
    assert again.job.walltime_ended
    assert "its walltime ended" in world.release(reservation.record.name).outcome


def test_a_job_that_vanishes(world: World) -> None:
    reservation = world.reserve()
    world.lab.faults.answer(404, path=ONE_JOB, times=100, body="Couldn't find OAR::Job with 'job_id'=1")
    with pytest.raises(JobOver, match="no longer knows it"):
        world.wait(reservation)


def test_waiting_gives_up_at_its_deadline_and_keeps_the_job(world: World) -> None:
    world.running(a_request(roles=nodes(4)))
    reservation = world.reserve(a_request(run="run-2"))
    with pytest.raises(DeadlinePassed, match="predicted start") as caught:
        world.wait(reservation, 600)
    assert exit_code(caught.value) == ExitCode.DEADLINE
    assert len(world.records.unreleased()) == 2


def test_waiting_survives_an_outage(world: World) -> None:
    reservation = world.reserve()
    world.lab.faults.answer(503, times=20, path=ONE_JOB)
    assert world.wait(reservation).job.running
    assert any("stays in the queue" in event.detail for event in world.events)


def test_a_reservation_that_starts_short(world: World) -> None:
    reservation = world.reserve()
    more = replace(reservation, record=replace(reservation.record, roles=nodes(3)))
    running = world.wait(more)
    assert any("2 of 3 nodes" in event.detail for event in world.events)
    with pytest.raises(NoResources, match=r"server \(2 of 3\)"):
        r.assign(world.api, running, world.deadline())


def test_a_release_that_is_not_confirmed(world: World) -> None:
    """The lab's clock stands still, so its scheduler never comes to it."""
    reservation = world.running()
    passed = [0.0]
    clock = Clock(lambda: passed[0], lambda: passed[0], lambda seconds: passed.__setitem__(0, passed[0] + seconds))
    with pytest.raises(TimeOver, match="has not confirmed"):
        r.release(world.api, reservation.record, world.records, Deadline.after(60, "x", clock), world.emit)
    assert len(world.records.unreleased()) == 1


def test_a_release_while_the_api_is_down_keeps_the_record(world: World) -> None:
    reservation = world.reserve()
    world.lab.down()
    with pytest.raises(ApiProblem):
        world.release(reservation.record.name)
    assert [record.job for record in world.records.unreleased()] == [reservation.job.id]
    world.lab.up()
    assert world.release(reservation.record.name).released


def test_a_release_whose_answer_is_lost(world: World) -> None:
    reservation = world.running()
    world.lab.faults.lose_answer("DELETE")
    assert world.release(reservation.record.name).released
    assert world.live() == []


def test_more_walltime(world: World) -> None:
    reservation = world.running()
    extension = r.extend(world.api, reservation, 1800, world.deadline(), world.emit)
    assert extension.reservation.job.walltime == 5400
    assert (extension.asked, extension.gained) == (1800, 1800)
    assert extension.words.startswith("granted: 30 min")


def test_more_walltime_while_others_wait_is_pending(world: World) -> None:
    reservation = world.running(a_request(roles=nodes(4)))
    world.reserve(a_request(run="run-2", roles=nodes(4)))
    world.lab.advance(70)
    extension = r.extend(world.api, reservation, 1800, world.deadline(), world.emit)
    assert extension.gained == 0
    assert extension.words.startswith("pending")
    waiting = r.resume(world.api, world.records.unreleased(run="run-2")[0], world.records, world.deadline())
    assert waiting is not None
    with pytest.raises(InvalidUse, match="waiting for free nodes"):
        r.extend(world.api, waiting, 1800, world.deadline(), world.emit)


def test_attaching_to_a_foreign_job(world: World) -> None:
    number = world.by_hand()
    reservation = r.attach(world.api, "lab", number, world.records, world.deadline(), run="run-9")
    assert reservation.record.foreign
    assert len(world.wait(reservation).nodes) == 1
    assert world.release(reservation.record.name).released
    assert world.live() == []
    with pytest.raises(NoResources, match="is over"):
        r.attach(world.api, "lab", number, world.records, world.deadline())
    with pytest.raises(InvalidUse, match="no job 9999"):
        r.attach(world.api, "lab", 9999, world.records, world.deadline())


def test_another_users_job_is_not_ours_to_take(world: World) -> None:
    number = world.by_hand()
    world.lab.write_home(world.lab.home, "asmith", "other")
    with Api(credentials.load(world.lab.home), clock=world.lab.clock) as other:
        with pytest.raises(NotAllowed, match="belongs to jdoe"):
            r.attach(other, "lab", number, world.records, world.deadline())
        found, _ = inventory.mine(other, world.records, world.deadline())
        assert found == []
