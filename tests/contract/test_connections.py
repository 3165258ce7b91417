"""The lab's API as clients of every kind meet it: silent ones, slow ones, and those who break off."""

from __future__ import annotations

import base64
import gc
import socket
from contextlib import ExitStack

import pytest
import requests

from g5kdeploy.lab.api.server import THREADS
from tests.contract.scripted import USERS, Lab

WHO = "Authorization: Basic " + base64.b64encode(f"jdoe:{USERS['jdoe']}".encode()).decode() + "\r\nHost: lab\r\n"
LAST = f"GET /stable/sites/lab HTTP/1.1\r\n{WHO}Connection: close\r\n\r\n"


def connect(lab: Lab) -> socket.socket:
    return socket.create_connection(("127.0.0.1", lab.port), timeout=60)


def statuses(lab: Lab, said: str, *, leave: bool = False) -> list[str]:
    """The statuses that come, up to the end of the connection, for what one client says; `leave`: and then no more."""
    with connect(lab) as connection:
        connection.sendall(said.encode("latin-1"))
        if leave:
            connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            heard = stream.read().decode()
    return [part.split(" ", 1)[0] for part in heard.split("HTTP/1.1 ")[1:]]


def test_clients_that_say_nothing_hold_up_nobody(lab: Lab) -> None:
    with ExitStack() as silent:
        for _ in range(THREADS + 4):
            silent.enter_context(connect(lab))
        assert statuses(lab, LAST) == ["200"]


def post(headers: str, body: str, who: str = WHO) -> str:
    return f"POST /stable/sites/lab/jobs HTTP/1.1\r\nHost: lab\r\n{who}{headers}\r\n{body}"


FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize(
    "said",
    [
        post(f"{FORM}Content-Length: 99\r\n", "command=sleep 1&resources=nodes=1"),
        post(f"{FORM}Transfer-Encoding: chunked\r\n", "99\r\ncommand=sleep 1&resources=nodes=1"),
    ],
    ids=["length", "chunks"],
)
def test_a_request_that_breaks_off_is_not_carried_out(lab: Lab, said: str) -> None:
    assert statuses(lab, said, leave=True) == ["400"]
    assert lab.oar.current() == ()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (post("Content-Length: -5\r\n", "hello"), ["400"]),
        (post("Transfer-Encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n"), ["400"]),
        (f"GET http://[/stable HTTP/1.1\r\n{WHO}\r\n", ["400"]),
        (post("Transfer-Encoding: chunked\r\n", f"2\r\n{{}}\r\n0\r\n\r\n{LAST}", who=""), ["401", "200"]),
        (post("Content-Length: 2\r\n", f"{{}}{LAST}", who=""), ["401", "200"]),
        (f"GET /stable/sites/lab HTTP/1.1\r\n{WHO}\r\n" * 3 + LAST, ["200"] * 4),
        (post("Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n", "{}"), ["100", "400"]),
    ],
    ids=["negative", "chunks", "url", "unread chunks", "unread", "one after the other", "continue"],
)
def test_what_is_answered_before_the_connection_ends(
    lab: Lab, capfd: pytest.CaptureFixture[str], said: str, expected: list[str]
) -> None:
    assert statuses(lab, said) == expected
    assert "Traceback" not in capfd.readouterr().err


def test_a_file_that_suffers_a_fault_is_closed(lab: Lab) -> None:
    file = lab.services.homes["lab"] / "jdoe" / "public" / "file"
    file.parent.mkdir(parents=True)
    file.write_text("content")
    lab.faults.order(path="/public/", slow=0.01)
    answer = requests.get(f"{lab.url}/sites/lab/public/jdoe/file", auth=("jdoe", USERS["jdoe"]), timeout=60)
    assert answer.text == "content"
    gc.collect()  # one that was left open is an error here
