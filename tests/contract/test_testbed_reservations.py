"""Reserving, waiting, attaching and letting go, on a site that does what the test says."""

from __future__ import annotations

import time as real_time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from werkzeug.wrappers import Response

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.events.event import Emitter, Event, State
from g5kdeploy.events.failure import ExitCode, InvalidUse, NoResources, NotAllowed, TimeOver, exit_code
from g5kdeploy.testbed import inventory
from g5kdeploy.testbed import reservations as r
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.credentials import Credentials
from g5kdeploy.testbed.problems import ApiProblem, JobOver
from g5kdeploy.testbed.records import Records, RecordState
from g5kdeploy.testbed.request import Request, RoleNodes
from tests.support.faulty import FaultyProxy, proxied
from tests.support.scripted_site import PASSWORD, USER, ScriptedSite, served
from tests.support.virtual import VirtualTime

NODES = ("vm-1.lab.grid5000.fr", "vm-2.lab.grid5000.fr")


@dataclass
class World:
    site: ScriptedSite
    proxy: FaultyProxy
    time: VirtualTime
    api: Api
    records: Records
    events: list[Event]
    emit: Emitter

    def deadline(self, seconds: float = 7200) -> Deadline:
        return Deadline.after(seconds, "the test", self.time.clock)

    def reserve(self, request: Request | None = None) -> r.Reservation:
        return r.reserve(self.api, request or a_request(), self.records, self.deadline(), self.emit)

    def wait(self, reservation: r.Reservation, seconds: float = 7200) -> r.Reservation:
        return r.wait_running(self.api, reservation, self.records, self.deadline(seconds), self.emit)

    def release(self, name: str) -> Any:
        record = self.records.get(name)
        assert record is not None
        return r.release(self.api, record, self.records, self.deadline(), self.emit)

    def posts(self) -> int:
        return self.proxy.count("^POST /stable/sites/lab/jobs$")

    def live(self) -> list[int]:
        return [uid for uid, job in self.site.jobs.items() if job["state"] != "error"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    site, time = ScriptedSite(), VirtualTime()
    events: list[Event] = []
    emit = Emitter(sinks=[events.append], clock=time.clock)
    with served(site) as url, proxied(url) as proxy:
        credentials = Credentials(f"{proxy.url}/stable", USER, PASSWORD, origin="the test", timeout=20)
        with Api(credentials, emit, clock=time.clock) as api:
            records = Records("lab", tmp_path / "reservations", clock=time.clock)
            yield World(site, proxy, time, api, records, events, emit)


def a_request(**more: Any) -> Request:
    return Request(
        **{
            "site": "lab",
            "roles": (RoleNodes("server", 1), RoleNodes("client", 1)),
            "walltime": 3600,
            "run": "run-1",
            **more,
        }
    )


def test_reserve_wait_and_release(world: World) -> None:
    reservation = world.reserve()
    asked = world.site.jobs[reservation.job.id]["asked"]
    assert asked["resources"] == "nodes=2,walltime=1:00:00"
    assert asked["types"] == ["deploy", "origin=g5kdeploy"]
    assert asked["name"] == reservation.record.name
    assert reservation.nodes == ()
    assert any("Set walltime to default" in event.detail for event in world.events)
    running = world.wait(reservation)
    assert running.nodes == NODES
    assert r.assign(world.api, running, world.deadline()) == {"server": NODES[:1], "client": NODES[1:]}
    released = world.release(reservation.record.name)
    assert released.state is RecordState.RELEASED
    assert f"{USER} deleted it" in released.outcome
    assert not world.live()
    assert world.records.unreleased() == []
    world.release(reservation.record.name)
    assert world.proxy.count("DELETE") == 1


def test_the_same_run_finds_its_job_again(world: World) -> None:
    first = world.reserve()
    assert world.reserve().job.id == first.job.id
    assert world.posts() == 1
    assert world.reserve(a_request(run="run-2")).job.id != first.job.id


def test_a_run_whose_job_is_over_gets_a_new_one(world: World) -> None:
    first = world.reserve()
    world.site.end(world.site.jobs[first.job.id])
    second = world.reserve()
    assert second.job.id != first.job.id
    record = world.records.get(first.record.name)
    assert record is not None
    assert record.released


@pytest.mark.parametrize("kind", ["drop", "cut"])
def test_a_lost_answer_is_looked_up_and_not_submitted_twice(world: World, kind: str) -> None:
    world.proxy.fault("POST .*/jobs", kind)
    reservation = world.reserve()
    assert world.posts() == 1
    assert world.live() == [reservation.job.id]
    assert any(event.state is State.WARNING and "by its name" in event.detail for event in world.events)


def test_a_submission_that_never_arrived_is_sent_again_after_a_look(world: World) -> None:
    world.proxy.fault("POST .*/jobs", status=502, body="<html><title>502 Proxy Error</title>")
    reservation = world.reserve()
    assert world.posts() == 2
    assert world.proxy.count(r"GET .*/jobs\?.*name=g5kdeploy-") > 2
    assert world.live() == [reservation.job.id]


def test_a_lasting_silence_leaves_a_record_that_finds_the_job(world: World) -> None:
    world.proxy.fault("POST .*/jobs", "refuse", times=10)
    with pytest.raises(ApiProblem) as caught:
        world.reserve()
    assert exit_code(caught.value) == ExitCode.FAILED
    assert world.posts() == 2
    [record] = world.records.unreleased()
    assert record.state is RecordState.ASKED
    # It turns up late: release finds it by name.
    late = {"uid": 500, "user_uid": USER, "name": record.name, "state": "waiting", "events": [], "walltime": 60}
    world.site.jobs[500] = late
    assert world.release(record.name).released
    assert world.live() == []


def test_a_first_submission_that_turns_up_after_the_second_is_deleted(world: World) -> None:
    world.proxy.fault("POST .*/jobs", status=504)

    def twin(job: dict[str, Any]) -> None:
        world.site.jobs[99] = {**job, "uid": 99}

    world.site.on_submit = twin
    reservation = world.reserve()
    assert world.live() == [reservation.job.id]


def test_what_was_never_answered_nor_arrived_is_released(world: World) -> None:
    record = world.records.ask(a_request(), world.api.uri)
    assert world.release(record.name).released
    assert world.time.slept >= 29


def test_an_unanswered_request_is_asked_again_under_its_name(world: World) -> None:
    record = world.records.ask(a_request(), world.api.uri)
    assert world.reserve().record.name == record.name
    assert world.posts() == 1


def oar(message: str, status: int = 400) -> Response:
    inner = (
        '{\n   "code" : 400,\n   "message" : '
        + __import__("json").dumps(message)
        + ',\n   "title" : "Bad query"\n}\n\n'
    )
    text = f"Request to https://api.grid5000.fr/internal/oarapi/jobs.json failed with status {status}: {inner}"
    return Response(text, status, mimetype="text/plain")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            (
                "# Set walltime to default (3600 s).\n# There are not enough resources for your request\n"
                "# Error: please verify your job submission syntax.\n"
            ),
            "not that many nodes of this kind (Set walltime to default (3600 s).)",
        ),
        (
            (
                "OAR_JOB_ID=67\n# Advance reservation request: waiting for validation...\n"
                "# Reservation not valid --> KO (This reservation could run at 2026-11-22 17:35:54)\n"
            ),
            "it could run at 2026-11-22 17:35:54 (Paris time)",
        ),
        ("# Error: queue 'nope' does not exist\n", "queue 'nope' does not exist"),
        (
            'DBD::Pg::st execute failed: ERROR:  column "bogus" does not exist\nLINE 1: SELECT bogus,resource_id\n',
            "no property or resource named bogus",
        ),
    ],
)
def test_a_refusal_is_told_in_a_sentence(world: World, message: str, words: str) -> None:
    world.site.on_submit = lambda job: oar(message, 500 if "queue" in message else 400)
    with pytest.raises(NoResources) as caught:
        world.reserve()
    assert exit_code(caught.value) == ExitCode.NO_RESOURCES
    assert words in caught.value.cause
    assert world.posts() == 1
    assert world.records.unreleased() == []


def test_a_refused_advance_reservation_whose_answer_was_lost(world: World) -> None:
    world.site.on_submit = lambda job: job.update(state="error", message="Reservation too old")
    world.proxy.fault("POST .*/jobs", "drop")
    with pytest.raises(NoResources, match="Reservation too old"):
        world.reserve(a_request(at=real_time.time() - 1000))
    assert world.posts() == 1


def test_not_allowed_and_an_unknown_site(world: World) -> None:
    world.proxy.fault("POST .*/jobs", status=403, body="You are not authorized to access this resource")
    with pytest.raises(NotAllowed, match="not authorized"):
        world.reserve()
    world.proxy.fault("POST .*/jobs", status=404, body="Not Found")
    with pytest.raises(InvalidUse, match="has no site"):
        world.reserve()
    assert world.records.unreleased() == []


def test_an_advance_reservation_is_asked_for_in_paris_time(world: World) -> None:
    job = world.reserve(a_request(at=1796025600)).job  # 2026-11-30 08:00:00 UTC
    assert world.site.jobs[job.id]["asked"]["reservation"] == "2026-11-30 09:00:00"


def test_a_job_that_ends_before_it_runs(world: World) -> None:
    reservation = world.reserve()
    world.site.on_get = lambda job: world.site.end(job, "BESTEFFORT_KILL")
    with pytest.raises(JobOver, match="besteffort"):
        world.wait(reservation)
    assert world.records.unreleased() == []


def test_a_job_that_vanishes(world: World) -> None:
    reservation = world.reserve()
    world.site.jobs.clear()
    with pytest.raises(JobOver, match="no longer knows it"):
        world.wait(reservation)
    again = world.reserve()
    world.site.jobs.clear()
    assert "no longer knows" in world.release(again.record.name).outcome


def test_waiting_gives_up_at_its_deadline_and_keeps_the_job(world: World) -> None:
    reservation = world.reserve()
    world.site.on_get = lambda job: job.update(scheduled_at=int(real_time.time()) + 7200)
    with pytest.raises(DeadlinePassed, match="predicted start") as caught:
        world.wait(reservation, 600)
    assert exit_code(caught.value) == ExitCode.DEADLINE
    assert len(world.records.unreleased()) == 1


def test_waiting_survives_an_outage(world: World) -> None:
    reservation = world.reserve()
    world.proxy.fault("GET .*/jobs/", status=503, times=20)
    assert world.wait(reservation).job.running
    assert any("stays in the queue" in event.detail for event in world.events)


def test_a_reservation_that_starts_short(world: World) -> None:
    reservation = world.reserve(a_request(roles=(RoleNodes("server", 3),)))
    running = world.wait(reservation)
    assert any("2 of 3 nodes" in event.detail for event in world.events)
    with pytest.raises(NoResources, match=r"server \(2 of 3\)"):
        r.assign(world.api, running, world.deadline())


def test_a_release_that_is_not_confirmed(world: World) -> None:
    reservation = world.reserve()
    world.site.on_delete = lambda job: job.update(state="finishing")
    with pytest.raises(TimeOver, match="has not confirmed"):
        r.release(world.api, reservation.record, world.records, world.deadline(60), world.emit)
    assert len(world.records.unreleased()) == 1


def test_a_release_of_what_somebody_killed_meanwhile(world: World) -> None:
    reservation = world.reserve()
    world.proxy.fault("GET .*/jobs/", "drop")

    def kill_first(job: dict[str, Any]) -> None:
        pass

    world.site.on_get = kill_first
    world.site.end(world.site.jobs[reservation.job.id], "FRAG_JOB_REQUEST", "WALLTIME")
    assert "its walltime ended" in world.release(reservation.record.name).outcome


def test_a_release_while_the_api_is_down_keeps_the_record(world: World) -> None:
    reservation = world.reserve()
    world.proxy.fault("", status=503, times=1000)
    with pytest.raises(ApiProblem):
        world.release(reservation.record.name)
    assert [record.job for record in world.records.unreleased()] == [reservation.job.id]


def test_attaching_to_a_foreign_job(world: World) -> None:
    job = {"uid": 7, "user_uid": USER, "state": "running", "events": [], "walltime": 60, "assigned_nodes": list(NODES)}
    world.site.jobs[7] = job
    reservation = r.attach(world.api, "lab", 7, world.records, world.deadline(), run="run-9")
    assert reservation.nodes == NODES
    assert reservation.record.foreign
    assert world.release(reservation.record.name).released
    assert world.live() == []
    with pytest.raises(NoResources, match="is over"):
        r.attach(world.api, "lab", 7, world.records, world.deadline())
    world.site.jobs[8] = {**job, "uid": 8, "user_uid": "other", "state": "running"}
    with pytest.raises(NotAllowed, match="belongs to other"):
        r.attach(world.api, "lab", 8, world.records, world.deadline())
    with pytest.raises(InvalidUse, match="no job 9"):
        r.attach(world.api, "lab", 9, world.records, world.deadline())


def test_mine_asks_the_site_and_not_the_disk(world: World) -> None:
    mine = world.reserve()
    world.site.jobs[7] = {"uid": 7, "user_uid": USER, "state": "running", "events": [], "walltime": 60}
    gone = world.records.known(world.records.ask(a_request(run="run-3"), world.api.uri), 4711)
    found, trouble = inventory.mine(world.api, world.records, world.deadline())
    assert trouble == []
    assert {(one.job.id if one.job else None, one.record.name if one.record else None) for one in found} == {
        (mine.job.id, mine.record.name),
        (7, None),
        (None, gone.name),
    }


def test_a_dead_site_does_not_spoil_the_status(world: World) -> None:
    world.site.status = {
        "vm-1.lab.grid5000.fr": {"hard": "alive", "soft": "free"},
        "vm-2.lab.grid5000.fr": {"hard": "alive", "soft": "busy"},
        "vm-3.lab.grid5000.fr": {"hard": "absent", "soft": "free"},
    }
    world.proxy.fault("GET /stable/sites/dead/status", status=503, times=1000)
    live, dead = inventory.status(world.api, world.deadline(), ["lab", "dead"])
    assert live == inventory.SiteStatus("lab", 3, 1, 1, 1)
    assert dead.site == "dead"
    assert "503" in dead.problem


def test_more_nodes_than_exist(world: World) -> None:
    inventory.check_exists(world.api, a_request(), world.deadline())
    with pytest.raises(NoResources, match="has 3 nodes for this reservation, and 5 are asked for") as caught:
        inventory.check_exists(world.api, a_request(roles=(RoleNodes("server", 5),)), world.deadline())
    assert exit_code(caught.value) == ExitCode.NO_RESOURCES
    with pytest.raises(NoResources, match="no cluster nope"):
        inventory.check_exists(world.api, a_request(roles=(RoleNodes("s", 1, cluster="nope"),)), world.deadline())
    with pytest.raises(NoResources):
        inventory.check_exists(
            world.api, a_request(roles=(RoleNodes("s", 1, properties="gpu_count > 0"),)), world.deadline()
        )
    inventory.check_exists(
        world.api, a_request(roles=(RoleNodes("s", 3, properties="memnode >= 8192"),)), world.deadline()
    )
    with pytest.raises(InvalidUse, match="no site 'nope'"):
        inventory.check_exists(world.api, a_request(site="nope"), world.deadline())
    assert world.posts() == 0


def test_the_earliest_start(world: World) -> None:
    now = int(world.time.clock.wall())
    job = {"state": "running", "started_at": now - 100, "walltime": 700}
    waiting = {"state": "waiting", "started_at": 0, "scheduled_at": now + 661, "walltime": 60}
    world.site.status = {
        "vm-1.lab.grid5000.fr": {"hard": "alive", "soft": "free", "reservations": []},
        "vm-2.lab.grid5000.fr": {"hard": "standby", "soft": "busy", "reservations": [job, waiting]},
        "vm-10.lab.grid5000.fr": {"hard": "absent", "soft": "free", "reservations": []},
    }

    def earliest(count: int) -> float | None:
        request = a_request(roles=(RoleNodes("server", count),))
        return inventory.earliest(world.api, request, world.deadline())

    assert earliest(1) == pytest.approx(now, abs=2)
    assert earliest(2) == now + 661 + 60 + 61
    assert earliest(3) is None
