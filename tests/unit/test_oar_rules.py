"""The rules of OAR's scheduler as its source has them: who goes before whom, who gives way, who comes again."""

from __future__ import annotations

import pytest

from g5kdeploy.lab.oar import Refused
from g5kdeploy.lab.oar.text import date
from tests.support.oar_site import Site, n

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
