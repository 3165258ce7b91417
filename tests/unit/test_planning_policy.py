"""What the usage policy says, and what the words for a start mean; all moments in Paris unless said otherwise."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator

import pytest

from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed.planning import calendar, window
from g5kdeploy.testbed.planning.landscape import OwnJob
from g5kdeploy.testbed.planning.policy import Case, judge
from g5kdeploy.testbed.planning.wish import Wish, objection
from g5kdeploy.testbed.request import RoleNodes, paris_zone

HOUR = 3600


def at(text: str) -> float:
    return dt.datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=paris_zone()).timestamp()


def said(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, paris_zone()).strftime("%Y-%m-%d %H:%M")


def case(start: str, hours: float, cores: int = 40, submitted: str = "2026-11-20 12:00", **more: object) -> Case:
    """A job on `c`, a cluster of 100 cores: 200 core-hours a day."""
    begin = at(start)
    told = {"cores": {"c": cores}, "totals": {"c": 100}, **more}
    return Case("s", begin, int(hours * HOUR), min(begin, at(submitted)), **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("job", "allowed", "why"),
    [
        (case("2026-11-24 09:00", 5), True, "within the daily quota"),
        (case("2026-11-24 09:00", 5.5), False, "220 core-hours of c .* Tue 24 Nov; the limit is 200"),
        (case("2026-11-24 19:00", 14, 100), True, "outside working hours"),
        (case("2026-11-24 19:00", 14.5), False, "across 9:00 of Wed 25 Nov"),
        (case("2026-11-24 18:00", 2), False, "across 19:00 of Tue 24 Nov .*17:00"),
        (case("2026-11-24 18:00", 2, submitted="2026-11-24 16:59"), False, "across 19:00"),
        (case("2026-11-24 18:00", 2, submitted="2026-11-24 17:00"), True, "quota"),
        (case("2026-11-24 18:00", 15.5, submitted="2026-11-24 17:30"), False, "across 9:00"),
        (case("2026-11-24 18:00", 2, submitted="2026-11-23 17:30"), False, "across 19:00"),
        (case("2026-11-27 19:00", 62, 100), True, "outside"),
        (case("2026-11-28 10:00", 10, 100), True, "outside"),
        (case("2026-11-28 10:00", 72, 100), False, "across 9:00 of Mon 30 Nov"),
        (case("2026-07-14 10:00", 8, 100), True, "outside working hours .*nationale"),
        (case("2026-04-06 10:00", 8, 100), True, "Lundi de Pâques"),
        (case("2026-12-24 19:00", 86, 100), True, "Noël"),
        (case("2026-11-10 19:00", 38, 100), True, "Armistice"),
        (case("2026-11-24 10:00", 1, 400, submitted="2026-11-24 09:51"), True, "not counted"),
        (case("2026-11-24 10:00", 1, 400, submitted="2026-11-24 09:50"), False, "400 core-hours"),
        (case("2026-11-24 10:00", 1.1, 400, submitted="2026-11-24 09:59"), False, "core-hours"),
        (case("2026-11-24 10:00", 9, 100, types=["besteffort"]), True, "besteffort"),
        (case("2026-11-24 10:00", 9, 100, queue="besteffort", advance=True), False, "in advance"),
        (case("2026-11-24 10:00", 48, 100, queue="production"), True, "default queue"),
        (case("2026-11-24 10:00", 48, queue="abaca", advance=True), False, "no advance reservations"),
        (case("2026-11-24 10:00", 1, types=["night"]), False, "type night"),
        (case("2026-11-24 20:00", 1, types=["night"]), True, "outside"),
        (case("2026-11-24 20:00", 1, types=["day"]), False, "type day"),
        (case("2026-11-24 10:00", 1, advance=True), True, "level gold"),
        (case("2026-11-24 10:00", 1, advance=True, submitted="2026-11-23 09:00"), True, "gold or silver"),
        # The nights in which clocks change last 13 and 15 hours; Easter Monday is another weekend.
        (case("2026-03-27 19:00", 61, 100), True, "outside"),
        (case("2026-03-27 19:00", 61.5, 100), False, "across 9:00 of Mon 30 Mar"),
        (case("2026-10-23 19:00", 63, 100), True, "outside"),
        (case("2026-10-23 19:00", 63.5, 100), False, "across 9:00 of Mon 26 Oct"),
    ],
)  # fmt: skip
def test_a_job_is_judged(job: Case, allowed: bool, why: str) -> None:
    import re

    verdict = judge(job)
    assert verdict.allowed == allowed, verdict.why
    assert re.search(why, verdict.why), verdict.why


def own(start: str, hours: float, **more: object) -> OwnJob:
    begin = at(start)
    told = {"site": "s", "cores": {"c": 40}, "walltime": int(hours * HOUR), **more}
    return OwnJob(begin=begin, end=begin + hours * HOUR, **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mine", "allowed"),
    [
        ([own("2026-11-24 09:00", 3)], True),  # 120 and 80 core-hours
        ([own("2026-11-24 09:00", 3.5)], False),
        ([own("2026-11-23 09:00", 5)], True),  # another day
        ([own("2026-11-23 19:00", 15)], True),  # one hour of the day
        ([own("2026-11-24 09:00", 5, site="t")], True),
        ([own("2026-11-24 09:00", 5, cores={"d": 40})], True),
        ([own("2026-11-24 09:00", 5, best_effort=True)], True),
        ([own("2026-11-24 09:00", 5, queue="production")], True),
        ([own("2026-11-24 09:00", 1, submitted=at("2026-11-24 08:59"))] * 4, True),  # not counted
        ([own("2026-11-24 09:00", 1, submitted=at("2026-11-24 08:00"))] * 4, False),
    ],
)
def test_other_jobs_count_in_the_quota(mine: list[OwnJob], allowed: bool) -> None:
    assert judge(case("2026-11-24 14:00", 2), mine).allowed == allowed


def test_two_advance_reservations_are_the_most() -> None:
    job = case("2026-11-24 14:00", 2, 10, advance=True)
    waiting = own("2026-11-25 14:00", 2, advance=True)
    assert judge(job, [waiting]).allowed
    assert "2 advance reservations on s already" in judge(job, [waiting, waiting]).why
    soon = own("2026-11-20 12:30", 1, advance=True)
    assert judge(job, [waiting, soon]).allowed


@pytest.fixture
def in_paris() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Paris"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("word", "hours", "now", "first", "last"),
    [
        ("night", 2, "2026-11-24 10:00", "2026-11-24 19:00", "2026-11-25 07:00"),
        ("night", 2, "2026-11-24 23:00", "2026-11-24 23:00", "2026-11-25 07:00"),
        ("night", 2, "2026-11-25 06:00", "2026-11-25 06:00", "2026-11-25 07:00"),
        ("night", 2, "2026-11-25 07:30", "2026-11-25 19:00", "2026-11-26 07:00"),
        ("night", 14, "2026-11-24 10:00", "2026-11-24 19:00", "2026-11-24 19:00"),
        ("night", 14, "2026-03-28 10:00", "2026-03-29 19:00", "2026-03-29 19:00"),  # 13 h in the night before
        ("weekend", 62, "2026-11-24 10:00", "2026-11-27 19:00", "2026-11-27 19:00"),
        ("weekend", 20, "2026-11-28 10:00", "2026-11-28 10:00", "2026-11-29 13:00"),
        ("weekend", 63, "2026-04-01 10:00", "2026-04-03 19:00", "2026-04-04 18:00"),  # Easter Monday is free
        ("now", 1, "2026-11-24 10:00", "2026-11-24 10:00", "2026-11-24 10:00"),
        ("2026-11-27 19:00", 1, "2026-11-24 10:00", "2026-11-27 19:00", "2026-11-27 19:00"),
    ],
)
@pytest.mark.usefixtures("in_paris")
def test_the_window_of_a_word(word: str, hours: float, now: str, first: str, last: str) -> None:
    found = window(word, int(hours * HOUR), at(now))
    assert (said(found.first), said(found.last)) == (first, last)


@pytest.mark.parametrize(
    ("word", "hours", "told"),
    [
        ("night", 16, "does not fit into a night"),
        ("weekend", 200, "does not fit into a weekend"),
        ("2026-11-20 19:00", 1, "is over"),
        ("tomorrow", 1, "no time to start"),
        ("2027-03-28 02:30", 1, "there is no 2027-03-28 02:30"),
    ],
)
@pytest.mark.usefixtures("in_paris")
def test_words_that_mean_nothing(word: str, hours: float, told: str) -> None:
    with pytest.raises(InvalidUse, match=told):
        window(word, int(hours * HOUR), at("2026-11-24 10:00"))


def test_earliest_has_no_end() -> None:
    assert window("earliest", 60, 5.0).last == float("inf")
    for moment in ("0001-01-01 00:00", "9999-12-31 23:59"):
        with pytest.raises(InvalidUse, match=r"no time to start|is over"):
            window(moment, 60, 5.0)


def test_working_hours() -> None:
    assert calendar.works(dt.date(2026, 11, 24))
    assert not calendar.works(dt.date(2026, 11, 28))
    assert not calendar.works(dt.date(2026, 11, 11))
    spans = calendar.working(at("2026-11-27 18:00"), at("2026-11-30 10:00"))
    assert spans == {dt.date(2026, 11, 27): 3600.0, dt.date(2026, 11, 30): 3600.0}


@pytest.mark.parametrize(
    ("document", "wish", "why"),
    [
        ({}, {}, ""),
        ({"supported_job_types": {"queues": ["admin", "default"]}}, {}, ""),
        ({"supported_job_types": {"queues": ["admin", "abaca"]}}, {}, "takes the queue abaca, not default"),
        ({"supported_job_types": {"queues": ["admin", "abaca"]}}, {"queue": "besteffort"}, ""),
        ({"supported_job_types": {"besteffort": False}}, {"types": ("besteffort",)}, "takes no besteffort jobs"),
        ({"supported_job_types": {"deploy": False}}, {}, "cannot be deployed"),
        ({"supported_job_types": {"deploy": False}}, {"types": ()}, ""),
        ({"supported_job_types": {"max_walltime": 1800}}, {}, "takes jobs of at most 30 min"),
        ({"exotic": True}, {}, "is exotic: needs the job type exotic"),
        ({"exotic": True}, {"types": ("deploy", "exotic")}, ""),
        ({"architecture": {"platform_type": "ppc64le"}}, {}, "is ppc64le, the closures are x86_64"),
    ],
)
def test_why_a_node_is_none_for_it(document: dict[str, object], wish: dict[str, object], why: str) -> None:
    assert objection(Wish((RoleNodes("r", 1),), HOUR, **wish), document) == why  # type: ignore[arg-type]
