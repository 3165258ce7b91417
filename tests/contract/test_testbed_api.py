"""The adapter against an API that is down, slow, in trouble, or none at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from g5kdeploy.base.clock import Clock
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.event import Emitter, Event
from g5kdeploy.events.failure import ExitCode, NotAllowed, exit_code
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.credentials import Credentials
from g5kdeploy.testbed.problems import ApiProblem, NotThere, Unclear
from tests.contract.scripted import TUESDAY, USERS, Lab
from tests.support.faulty import FaultyProxy, proxied

USER, PASSWORD = "jdoe", USERS["jdoe"]


@pytest.fixture
def proxy(lab: Lab) -> Iterator[FaultyProxy]:
    with proxied(lab.url.removesuffix("/stable")) as proxy:
        yield proxy


@pytest.fixture
def clock(lab: Lab) -> Clock:
    """Sleeping turns the lab's clock: no test depends on how fast the machine is."""
    return lab.clock


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def credentials(proxy: FaultyProxy) -> Credentials:
    return Credentials(f"{proxy.url}/stable", USER, PASSWORD, origin="~/.python-grid5000.yaml", timeout=20)


@pytest.fixture
def api(credentials: Credentials, clock: Clock, events: list[Event]) -> Iterator[Api]:
    with Api(credentials, Emitter(sinks=[events.append]), clock=clock) as api:
        yield api


@pytest.fixture
def deadline(clock: Clock) -> Deadline:
    return Deadline.after(3600, "the API", clock)


def test_a_document_and_a_collection(api: Api, deadline: Deadline) -> None:
    assert api.get("/users/users/~", deadline)["uid"] == USER
    assert api.sites(deadline) == ["lab"]


def test_all_pages_are_fetched(
    api: Api, deadline: Deadline, lab: Lab, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        lab.oar.submit(USER, {"command": "sleep 1"})
    monkeypatch.setattr("g5kdeploy.testbed.api._PAGE", 2)
    assert [item["uid"] for item in api.items("/sites/lab/jobs", deadline)] == [5, 4, 3, 2, 1]
    assert proxy.count("GET .*/jobs") == 3


def test_a_wrong_password_is_not_allowed(credentials: Credentials, deadline: Deadline, proxy: FaultyProxy) -> None:
    with Api(replace(credentials, password="wrong")) as api, pytest.raises(NotAllowed) as caught:
        api.sites(deadline)
    assert exit_code(caught.value) == ExitCode.NOT_ALLOWED
    assert proxy.url in str(caught.value)
    assert ".python-grid5000.yaml" in caught.value.hint
    assert "wrong" not in repr(api.credentials)
    assert len(proxy.log) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_passing_trouble_is_asked_again(
    api: Api, deadline: Deadline, proxy: FaultyProxy, events: list[Event], status: int
) -> None:
    proxy.fault("GET /stable/sites", status=status, times=2)
    assert api.sites(deadline) == ["lab"]
    assert proxy.count("GET /stable/sites") == 3
    assert [str(status) in event.detail for event in events] == [True, True]


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_lasting_trouble_is_told(api: Api, deadline: Deadline, proxy: FaultyProxy, clock: Clock, status: int) -> None:
    proxy.fault("GET", status=status, times=10_000)
    with pytest.raises(ApiProblem) as caught:
        api.sites(deadline)
    assert exit_code(caught.value) == ExitCode.FAILED
    assert str(status) in caught.value.what
    assert proxy.url in caught.value.what
    assert clock.wall() - TUESDAY < 25


def test_retry_after_is_obeyed(api: Api, deadline: Deadline, proxy: FaultyProxy, clock: Clock) -> None:
    proxy.fault("GET", status=503, headers={"Content-Type": "text/plain", "Retry-After": "120"})
    assert api.sites(deadline) == ["lab"]
    assert 120 <= clock.wall() - TUESDAY < 125


def test_retry_after_does_not_outlast_the_deadline(api: Api, proxy: FaultyProxy, clock: Clock) -> None:
    proxy.fault("GET", status=503, headers={"Content-Type": "text/plain", "Retry-After": "9999"})
    with pytest.raises(ApiProblem, match="503"):
        api.sites(Deadline.after(60, "the sites", clock))
    assert clock.wall() - TUESDAY == 0


def test_an_api_that_is_down(clock: Clock, deadline: Deadline) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/stable"
        with Api(Credentials(url, USER, PASSWORD), clock=clock) as api:
            for call in (lambda: api.sites(deadline), lambda: api.post("/sites/lab/jobs", {}, deadline)):
                with pytest.raises(ApiProblem) as caught:
                    call()
                assert not isinstance(caught.value, Unclear)
                assert not caught.value.sent
                assert url in caught.value.what
                assert "refused" in caught.value.cause


def test_an_unknown_host(clock: Clock, deadline: Deadline) -> None:
    with (
        Api(Credentials("http://api.invalid/stable", USER, PASSWORD), clock=clock) as api,
        pytest.raises(ApiProblem, match=r"api\.invalid") as caught,
    ):
        api.sites(deadline)
    assert not caught.value.sent


def test_a_slow_api(credentials: Credentials, clock: Clock, deadline: Deadline, proxy: FaultyProxy) -> None:
    proxy.fault("GET", "hang", times=10_000)
    with Api(replace(credentials, timeout=0.2), clock=clock) as api, pytest.raises(ApiProblem) as caught:
        api.sites(deadline)
    assert "in time" in caught.value.what


def test_a_trickling_answer_ends_at_the_deadline(api: Api, proxy: FaultyProxy) -> None:
    proxy.fault("GET", "trickle", times=10_000)
    with pytest.raises(Problem, match=r"in time|gave up"):
        api.sites(Deadline.after(1.5, "the sites"))


@pytest.mark.parametrize("kind", ["refuse", "drop", "cut"])
def test_a_broken_connection_is_tried_again(api: Api, deadline: Deadline, proxy: FaultyProxy, kind: str) -> None:
    proxy.fault("GET", kind)
    assert api.sites(deadline) == ["lab"]


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        ("<html><head><title>Log in</title></head></html>", "text/html", "a web page (Log in)"),
        ("\x1b[2Jgarbage", "application/json", "it begins with: garbage"),
        ("", "application/json", "it begins with: nothing"),
        ('{"items": 3}', "application/json", "list"),
        ("[1]", "application/json", "it is [1], not a mapping"),
    ],
)
def test_what_is_no_answer_of_the_api(
    api: Api, deadline: Deadline, proxy: FaultyProxy, body: str, content_type: str, words: str
) -> None:
    proxy.fault("GET", status=200, body=body, headers={"Content-Type": content_type}, times=10_000)
    with pytest.raises(ApiProblem) as caught:
        api.sites(deadline)
    assert proxy.url in caught.value.what
    assert words in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_what_does_not_exist(api: Api, deadline: Deadline, proxy: FaultyProxy) -> None:
    with pytest.raises(NotThere, match="Couldn't find OAR::Job"):
        api.get("/sites/lab/jobs/5", deadline)
    assert len(proxy.log) == 1


@pytest.mark.parametrize("kind", ["drop", "refuse"])
def test_a_post_is_never_sent_twice(api: Api, deadline: Deadline, proxy: FaultyProxy, kind: str) -> None:
    proxy.fault("POST", kind, times=10)
    with pytest.raises(Unclear):
        api.post("/sites/lab/jobs", {"name": "x", "types": []}, deadline)
    assert proxy.count("POST") == 1


@pytest.mark.parametrize("status", [502, 503, 504, 500])
def test_an_error_of_a_proxy_leaves_a_post_unclear(
    api: Api, deadline: Deadline, proxy: FaultyProxy, status: int
) -> None:
    proxy.fault("POST", status=status, body="Bad Gateway", times=10)
    with pytest.raises(Unclear):
        api.post("/sites/lab/jobs", {"name": "x", "types": []}, deadline)
    assert proxy.count("POST") == 1


def test_a_post_that_was_answered_with_garbage_is_unclear(api: Api, deadline: Deadline, proxy: FaultyProxy) -> None:
    proxy.fault("POST", status=201, body="<html>", headers={"Content-Type": "text/html"})
    with pytest.raises(Unclear):
        api.post("/sites/lab/jobs", {"name": "x", "types": []}, deadline)


def test_text_that_is_labelled_json_is_understood_for_walltime_changes(
    api: Api, deadline: Deadline, proxy: FaultyProxy
) -> None:
    text = "Walltime change request accepted for job 7, it will be handled shortly."
    proxy.fault("POST", status=202, body=text, headers={"Content-Type": "application/json; charset=utf-8"})
    assert api.post("/sites/lab/jobs/7/walltime", {"walltime": "+0:30:0"}, deadline) == text


def test_a_delete_is_repeated_and_its_empty_answer_accepted(
    api: Api, deadline: Deadline, lab: Lab, proxy: FaultyProxy
) -> None:
    number = lab.oar.submit(USER, {"command": "sleep 1"}).id
    proxy.fault("DELETE", status=502)
    api.delete(f"/sites/lab/jobs/{number}", deadline)
    assert proxy.count("DELETE") == 2
    lab.advance(10)
    assert lab.oar.current() == ()
