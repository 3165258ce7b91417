"""Job types that say when and beside whom a job may run, and what Grid'5000's rules know besides."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.lab.oar import Job, Oar, Refused, Resource
from g5kdeploy.lab.oar.admission import GRID5000
from g5kdeploy.lab.oar.hours import fitting
from g5kdeploy.lab.oar.text import PARIS
from tests.contract.oar_player import FakeTime


def paris(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=PARIS).timestamp())


FRIDAY = paris("2026-11-27 17:30:00")
HOUR = 3600


@pytest.mark.parametrize(
    ("kind", "moment", "hours", "begins"),
    [
        ("day", "2026-11-27 10:00:00", 2, "2026-11-27 10:00:00"),
        ("day", "2026-11-27 17:30:00", 2, "2026-11-30 09:00:00"),
        ("day", "2026-11-27 17:30:00", 11, None),
        ("night", "2026-11-27 10:00:00", 2, "2026-11-27 19:00:00"),
        ("night", "2026-11-24 20:00:00", 14, "2026-11-25 19:00:00"),
        ("night", "2026-11-24 20:00:00", 30, "2026-11-27 19:00:00"),
        ("night", "2026-11-28 12:00:00", 40, "2026-11-28 12:00:00"),
        ("night", "2026-11-24 20:00:00", 63, None),
        ("night", "2026-03-27 12:00:00", 61, "2026-03-27 19:00:00"),  # the clocks are put forward in that night
        ("night", "2026-03-27 12:00:00", 62, "2026-04-03 19:00:00"),
    ],
)
def test_the_hours_of_days_and_nights(kind: str, moment: str, hours: int, begins: str | None) -> None:
    assert fitting(kind, paris(moment), hours * HOUR) == (begins and paris(begins))


class Site:
    """Two nodes of two cores, a disk on one of them, subnets; Friday afternoon."""

    def __init__(self, folder: Path) -> None:
        self.time = FakeTime(float(FRIDAY))
        resources = [Resource(1 + at, "default", f"n-{1 + at // 2}", {"core": at}) for at in range(4)]
        resources.append(Resource(5, "disk", "n-1", {"disk": "disk1.n-1"}))
        resources += [Resource(6 + at, "subnet", "", {"slash_22": at + 1}) for at in range(2)]
        self.oar = Oar(folder / "oar.sqlite", resources, self.time.clock(), rules=GRID5000)

    def submit(self, *types: str, resource: str = "nodes=1,walltime=1", user: str = "jdoe", **more: Any) -> int:
        request = {"resource": resource, "script": "sleep 10h", "type": list(types), **more}
        return self.oar.submit(user, request).id

    def job(self, number: int) -> Job:
        found = self.oar.job(number)
        assert found is not None
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.oar.stop()


def test_jobs_of_type_day_and_night_wait_for_their_hours(site: Site) -> None:
    night, day, too_long, any_time = (
        site.submit("night"),
        site.submit("day", resource="nodes=1,walltime=2"),
        site.submit("day", resource="nodes=1,walltime=11"),
        site.submit(),
    )
    site.time.run(site.oar, 20)
    assert site.job(night).scheduled_at == paris("2026-11-27 19:00:00")
    assert site.job(day).scheduled_at == paris("2026-11-30 09:00:00")
    assert site.job(too_long).message == f"Cannot find enough resources for job {too_long} yet"
    assert site.job(any_time).state == "Running"
    site.time.now = float(paris("2026-11-27 19:00:00"))
    site.time.run(site.oar, 70)
    assert (site.job(night).state, site.job(day).state) == ("Running", "Waiting")


def test_jobs_that_share_their_time_run_beside_each_other(site: Site) -> None:
    whole = "nodes=2,walltime=1"
    first, second = (site.submit("timesharing=user,*", resource=whole) for _ in range(2))
    stranger = site.submit("timesharing=user,*", resource=whole, user="asmith")
    alone = site.submit(resource=whole)
    site.time.run(site.oar, 30)
    assert [site.job(number).state for number in (first, second)] == ["Running", "Running"]
    assert [site.job(number).state for number in (stranger, alone)] == ["Waiting", "Waiting"]
    assert (site.job(stranger).scheduled_at or 0) > FRIDAY + HOUR
    assert (site.job(alone).scheduled_at or 0) > (site.job(stranger).scheduled_at or 0)


def test_sharing_by_name(site: Site) -> None:
    first = site.submit("timesharing=*,name", name="a", resource="nodes=2,walltime=1")
    same = site.submit("timesharing=*,name", name="a", resource="nodes=1,walltime=1", user="asmith")
    other = site.submit("timesharing=*,name", name="b", resource="nodes=1,walltime=1")
    site.time.run(site.oar, 30)
    assert [site.job(number).state for number in (first, same, other)] == ["Running", "Running", "Waiting"]


def test_a_subnet_is_asked_for_by_its_size_alone(site: Site) -> None:
    job = site.submit(resource="slash_22=1+nodes=1,walltime=1")
    site.time.run(site.oar, 20)
    assert [one.type for one in site.job(job).assigned] == ["default", "default", "subnet"]


def test_disks_are_had_for_a_fortnight_at_most(site: Site) -> None:
    assert site.submit(resource="{type='disk'}/disk=1,walltime=336")
    with pytest.raises(Refused, match="more than 14 days"):
        site.submit(resource="{type='disk'}/disk=1,walltime=337")


def test_queue_default_leaves_production_clusters_alone(tmp_path: Path) -> None:
    nodes = [
        Resource(at, "default", f"n-{at}", {"production": kind}) for at, kind in ((1, "YES"), (2, "NO"), (3, "YES"))
    ]
    oar = Oar(tmp_path / "oar.sqlite", nodes, FakeTime(float(FRIDAY)).clock(), rules=GRID5000)
    try:
        for queue, most in (("default", 1), ("production", 2), ("besteffort", 3)):
            request = {"script": "sleep 1h", "queue": queue}
            assert oar.submit("jdoe", {"resource": f"nodes={most}", **request}).queue == queue
            with pytest.raises(Refused, match="not enough resources"):
                oar.submit("jdoe", {"resource": f"nodes={most + 1}", **request})
    finally:
        oar.stop()
