"""Options of sites made by hand: maintenance, predictions, mixtures, silent sites, accesses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed.planning import Landscape, Plan, Wish, plan, window
from g5kdeploy.testbed.planning.landscape import SECURITY, own_job, site_nodes
from g5kdeploy.testbed.request import RoleNodes
from g5kdeploy.workflow import starting

NOW = 1_795_510_800.0  # Tuesday 2026-11-24 10:00 in Paris
HOUR = 3600


def job(begin: float, hours: float, state: str = "running", **more: Any) -> dict[str, Any]:
    when = {"started_at": begin} if state == "running" else {"started_at": 0, "scheduled_at": begin}
    return {"state": state, "walltime": int(hours * HOUR), "queue": "default", "types": [], **when, **more}


def site(clusters: dict[str, list[list[dict[str, Any]]]], queues: tuple[str, ...] = ("admin", "default")) -> Any:
    """Clusters of a site `s`: for each node its jobs."""
    documents = {
        cluster: [
            {
                "uid": f"{cluster}-{number}",
                "architecture": {"nb_cores": 16, "platform_type": "x86_64"},
                "supported_job_types": {"deploy": True, "besteffort": True, "queues": list(queues)},
            }
            for number in range(1, len(jobs) + 1)
        ]
        for cluster, jobs in clusters.items()
    }
    status = {
        f"{cluster}-{number}.s.grid5000.fr": {"hard": "alive", "reservations": some}
        for cluster, jobs in clusters.items()
        for number, some in enumerate(jobs, 1)
    }
    return {"s": site_nodes("s", documents, status, now=NOW)}


def planned(land: Landscape, *roles: RoleNodes, hours: int = 1, at: str = "earliest", **more: Any) -> Plan:
    wish = Wish(roles or (RoleNodes("r", 2),), hours * HOUR, **more)
    return plan(land, wish, window(at, wish.walltime, land.now))


half_hours = st.lists(st.tuples(st.integers(-2, 12), st.integers(1, 6)), max_size=3)


@settings(max_examples=60, deadline=None)
@given(nodes=st.lists(st.none() | half_hours, min_size=1, max_size=4), count=st.integers(1, 3), hours=st.integers(1, 4))
def test_a_job_inside_another_has_its_nodes_and_its_time(
    nodes: list[list[tuple[int, int]] | None], count: int, hours: int
) -> None:
    """Of each node: the jobs inside the container that has it (begin and length), or None: it is not in the container."""
    container = job(NOW - HOUR, 7, uid=7, types=["container"])
    jobs = [
        [job(NOW + 3 * HOUR, 2)]
        if inside is None
        else [container, *(job(NOW + b * HOUR / 2, n / 2, "waiting", types=["inner=7"]) for b, n in inside)]
        for inside in nodes
    ]
    land = Landscape(NOW, site({"a": jobs}))
    spans = [
        [(NOW + b * HOUR / 2, NOW + (b + n) * HOUR / 2 + SECURITY) for b, n in inside]
        for inside in nodes
        if inside is not None
    ]
    moments = sorted({NOW, *(end for some in spans for _, end in some if end > NOW)})
    end = NOW + 6 * HOUR + SECURITY
    expected = next(
        (
            moment
            for moment in moments
            if (until := moment + hours * HOUR + SECURITY) <= end
            and sum(all(e <= moment or b >= until for b, e in some) for some in spans) >= count
        ),
        None,
    )
    found = planned(land, RoleNodes("r", count), hours=hours, types=("deploy", "inner=7"))
    assert [option.start for option in found.options] == ([] if expected is None else [expected])
    if None in nodes and not found.options:
        assert "is not in the container 7" in found.without[0][2]
    others = planned(land, RoleNodes("r", 1), at="now").options
    assert bool(others) == (None in nodes), "to others the container's nodes are taken"


def test_a_besteffort_container_evicts_nobody() -> None:
    container = job(NOW - HOUR, 4, uid=7, queue="besteffort", types=["besteffort", "container"])
    land = Landscape(NOW, site({"a": [[container], [container]]}))
    (option,) = planned(land, types=("deploy", "inner=7")).options
    assert (option.start, option.evicted) == (NOW, 0)
    assert planned(land).options[0].evicted == 2


def test_disks_that_are_taken_keep_a_role_with_disks_away() -> None:
    devices = [{"id": "disk0"}, {"id": "disk1", "reservation": True}]
    documents = {"a": [{"uid": f"a-{n}", "storage_devices": devices} for n in (1, 2)]}
    alive = {f"a-{n}.s.grid5000.fr": {"hard": "alive"} for n in (1, 2)}
    disks = {
        "disk1.a-1.s.grid5000.fr": {"reservations": [job(NOW - HOUR, 6)]},
        "disk1.a-2.s.grid5000.fr": {"reservations": [job(NOW - HOUR, 2, queue="besteffort")]},
    }
    land = Landscape(NOW, {"s": site_nodes("s", documents, alive, disks, now=NOW)})
    (option,) = planned(land, RoleNodes("r", 2)).options
    assert option.start == NOW, "the nodes themselves are free"
    (option,) = planned(land, RoleNodes("r", 1, disks=True)).options
    assert (option.start, option.nodes) == (NOW, ("a-2.s.grid5000.fr",))
    (option,) = planned(land, RoleNodes("r", 1, disks=True), RoleNodes("other", 1)).options
    assert (option.start, option.nodes) == (NOW, ("a-2.s.grid5000.fr", "a-1.s.grid5000.fr"))
    (option,) = planned(land, RoleNodes("r", 2, disks=True)).options
    assert option.start == NOW + 5 * HOUR + SECURITY


def test_maintenance_is_a_job_and_is_told() -> None:
    repair = job(NOW - HOUR, 4, queue="admin")
    (option,) = planned(Landscape(NOW, site({"a": [[repair], [repair], []]}))).options
    assert option.start == NOW + 3 * HOUR + SECURITY
    assert any(note.startswith("maintenance on 2 of 3 nodes until") for note in option.notes)


def test_a_predicted_job_leaves_room_before_it() -> None:
    coming = job(NOW + HOUR + SECURITY, 5, "waiting")
    (option,) = planned(Landscape(NOW, site({"a": [[coming], []]}))).options
    assert option.start == NOW
    (option,) = planned(Landscape(NOW, site({"a": [[coming], []]})), hours=2).options
    assert option.start == NOW + 6 * HOUR + 2 * SECURITY
    unknown = {"state": "waiting", "started_at": 0, "walltime": HOUR}
    (option,) = planned(Landscape(NOW, site({"a": [[unknown], []]}))).options
    assert option.start == NOW


def test_a_job_over_its_time_still_holds_its_node() -> None:
    late = job(NOW - 3 * HOUR, 2)
    (option,) = planned(Landscape(NOW, site({"a": [[late], []]}))).options
    assert option.start > NOW


def test_a_mixture_is_shown_when_it_starts_earlier() -> None:
    busy = job(NOW - HOUR, 3)
    land = Landscape(NOW, site({"a": [[busy], []], "b": [[], [busy]]}))
    first, *others = planned(land).options
    assert (first.name, first.start) == ("s/any", NOW)
    assert first.nodes == ("a-2.s.grid5000.fr", "b-1.s.grid5000.fr")
    assert first.notes[0] == "of several clusters"
    assert [option.name for option in others] == ["s/a", "s/b"]
    assert all(option.start == NOW + 2 * HOUR + SECURITY for option in others)
    pinned = planned(land, RoleNodes("x", 1, cluster="a"), RoleNodes("y", 1, cluster="b")).options
    assert [(option.name, option.start) for option in pinned] == [("s/a+b", NOW)]


def test_roles_by_property_get_their_nodes() -> None:
    land = Landscape(NOW, site({"a": [[], []]}))
    roles = (RoleNodes("x", 1, properties="core_count >= 16"), RoleNodes("y", 1))
    (option,) = planned(land, *roles).options
    assert len(option.nodes) == 2
    assert not planned(land, RoleNodes("x", 1, properties="core_count > 16")).options


def test_a_silent_site_and_a_missing_cluster_are_told() -> None:
    land = Landscape(NOW, site({"a": [[], []]}), troubles={"t": "it is down"})
    found = planned(land, RoleNodes("r", 1, cluster="z"))
    assert not found.options
    assert found.without == (("t", "", "does not answer: it is down"), ("s", "", "has no cluster z"))


@pytest.mark.parametrize(("label", "queue", "why"), [("p1", "default", "p1"), ("no-access", "default", "besteffort")])
def test_another_queue_is_told_with_the_access(label: str, queue: str, why: str) -> None:
    land = Landscape(NOW, site({"a": [[], []]}, ("admin", "abaca")), accesses={"a": label})
    ((_, cluster, reason),) = planned(land, queue=queue).without
    assert cluster == "a"
    assert "takes the queue abaca, not default" in reason
    assert why in reason


@pytest.mark.parametrize(("accesses", "open_"), [({"a": "p2"}, True), ({"a": "no-access"}, False), (None, True)])
def test_a_queue_that_needs_access(accesses: dict[str, str] | None, open_: bool) -> None:
    land = Landscape(NOW, site({"a": [[], []]}, ("admin", "abaca")), accesses=accesses)
    assert bool(planned(land, queue="abaca").options) == open_


def test_a_start_that_the_policy_allows_is_named() -> None:
    (option,) = planned(Landscape(NOW, site({"a": [[], []]})), hours=8).options
    assert (option.start, option.verdict.allowed) == (NOW, False)
    assert option.allowed == NOW + 9 * HOUR
    (option,) = planned(Landscape(NOW, site({"a": [[], []]})), hours=8, at="now").options
    assert option.allowed is None


def test_too_many_kinds_of_roles() -> None:
    roles = [RoleNodes(f"r{n}", 1, properties=f"core_count > {n}") for n in range(9)]
    with pytest.raises(InvalidUse, match="at most 8 kinds of roles, here are 9"):
        planned(Landscape(NOW, site({"a": [[]]})), *roles)


def test_our_own_jobs() -> None:
    cores = {"a-1.s.grid5000.fr": 16, "a-2.s.grid5000.fr": 16}
    ours = own_job("s", {**job(NOW, 2), "assigned_nodes": list(cores)}, cores)
    assert (ours.begin, ours.end, ours.cores, ours.advance) == (NOW, NOW + 2 * HOUR, {"a": 32}, False)
    assert own_job("s", {"state": "waiting", "started_at": NOW + HOUR, "walltime": 60}, {}).advance
    ended = {"state": "error", "started_at": NOW - HOUR, "stopped_at": NOW - 60, "walltime": 7200}
    assert own_job("s", ended, {}).end == NOW - 60


def test_clusters_with_the_same_reason_are_told_together() -> None:
    closed, small = "is open to you for besteffort jobs only", "1 of 2 nodes will do"
    without = [("rennes", f"abacus{number}", closed) for number in (1, 2, 10)]
    without += [("rennes", "parasilo", small), ("nancy", "", "does not answer"), ("nancy", "gros", closed)]
    said = starting.nothing(Plan((), tuple(without)), "now").cause.split("; ")
    assert said == [
        f"rennes/abacus[1-2,10]: {closed}",
        f"rennes/parasilo: {small}",
        "nancy: does not answer",
        f"nancy/gros: {closed}",
    ]
