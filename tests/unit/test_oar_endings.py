"""The rules of OAR as its source has them: nodes that fail, walltimes that change, jobs that are deleted, and how jobs end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from g5kdeploy.lab.oar import Hooks, Job, Query, Refused
from g5kdeploy.lab.oar.admission import FORBIDDEN, MISSING
from g5kdeploy.lab.oar.text import date
from tests.support.oar_site import Site, n

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
