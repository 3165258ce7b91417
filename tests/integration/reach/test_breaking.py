"""What can break between here and a node, and what is told of it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.node import (
    ConnectionLost,
    Remote,
    Result,
    Unreachable,
    fan_out,
    talk,
    wire,
)
from tests.support.reaching import LONG, Site, block, own_home, server, soon, until


def test_a_server_that_hangs_up_first_is_asked_again(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path)
    own.drop_next = 2
    try:
        with own_home(tmp_path, block("n", own, f"IdentityFile {site.key}")) as reach:
            assert reach.remote("n", None).run("echo at last", soon()).stdout == "at last\n"
            assert own.connections == 3
    finally:
        own.close()


def test_a_server_that_always_hangs_up_is_told(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path)
    own.drop_next = 1000
    try:
        with (
            own_home(tmp_path, block("n", own, f"IdentityFile {site.key}")) as reach,
            pytest.raises(Unreachable, match="closed the connection"),
        ):
            reach.remote("n", None).run("true", soon())
    finally:
        own.close()


def test_nobody_listens(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path)
    own.refuse()
    with own_home(tmp_path, block("n", own)) as reach, pytest.raises(Unreachable, match="refused the connection"):
        reach.remote("n", None).run("true", soon())


def test_a_connection_cut_in_the_middle_is_told_and_nothing_is_done_twice(
    site: Site, node: Remote, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    caught: list[BaseException] = []

    def run() -> None:
        try:
            node.run(f"echo once >> {mark}; while [ -e {mark} ]; do sleep 0.1; done", soon())
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: mark.exists() and bool(mark.read_text()), "the command began")
    site.nodes[0].cut()
    thread.join(LONG)
    assert isinstance(caught[0], ConnectionLost)
    assert "n1" in str(caught[0])
    assert mark.read_text() == "once\n"
    assert node.run("echo again", soon()).stdout == "again\n"
    mark.unlink()


def test_at_the_deadline_the_wait_ends_and_the_connection_stays(site: Site, node: Remote) -> None:
    node.run("true", soon())
    before = site.nodes[0].connections
    with pytest.raises(DeadlinePassed, match="gave up on the nap"):
        node.run("sleep 7", Deadline.after(0.5, "the nap"))
    assert node.run("echo on", soon()).stdout == "on\n"
    assert site.nodes[0].connections == before


def test_a_server_that_never_greets(tmp_path: Path, site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = f"Host n\n HostName 127.0.0.1\n Port {silent.getsockname()[1]}\n"
        with own_home(tmp_path, text) as reach, pytest.raises(DeadlinePassed, match="gave up on the greeting"):
            reach.remote("n", "x").run("true", Deadline.after(1, "the greeting"))


def test_a_machine_without_power_is_noticed(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "IDLE", 0.3)
    own = server(site, tmp_path)
    try:
        with own_home(tmp_path, block("n", own, f"IdentityFile {site.key}")) as reach:
            remote = reach.remote("n", None)
            remote.run("true", soon())
            ready = threading.Event()
            caught: list[BaseException] = []

            def run() -> None:
                try:
                    remote.run("echo began; sleep 60", soon(), out=lambda line: ready.set())
                except BaseException as error:
                    caught.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            assert ready.wait(LONG)
            own.pause()
            monkeypatch.setattr(wire, "CHANNEL", 1.0)
            thread.join(LONG)
            assert isinstance(caught[0], ConnectionLost)
            assert "stopped answering" in str(caught[0])
    finally:
        own.resume()
        own.close()


def test_a_silent_command_on_a_living_machine_is_left_alone(node: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "IDLE", 0.1)
    assert node.run("sleep 1; echo done", soon()).stdout == "done\n"


def test_more_commands_at_once_than_a_server_has_sessions(direct: Remote) -> None:
    answers = fan_out([str(i) for i in range(24)], lambda name: direct.run(f"echo {name}", soon()).stdout, limit=24)
    assert answers == {str(i): f"{i}\n" for i in range(24)}


def test_commands_that_were_given_up_do_not_shut_out_others(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path, "MaxSessions 1")
    stay = tmp_path / "stay"
    stay.touch()
    try:
        with own_home(tmp_path, block("n", own, f"IdentityFile {site.key}")) as reach:
            remote = reach.remote("n", None)
            remote.run("true", soon())
            with pytest.raises(DeadlinePassed):
                remote.run(f"while [ -e {stay} ]; do sleep 0.1; done", Deadline.after(1, "the command"))
            assert remote.run("echo in", soon()).stdout == "in\n"
    finally:
        stay.unlink()
        own.close()


def test_a_server_without_sessions_is_told(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path, "MaxSessions 0")
    try:
        with (
            own_home(tmp_path, block("n", own, f"IdentityFile {site.key}")) as reach,
            pytest.raises(Unreachable, match="run no command"),
        ):
            reach.remote("n", None).run("true", soon())
    finally:
        own.close()


def test_a_file_is_put_again_when_the_connection_broke(direct: Remote, tmp_path: Path) -> None:
    target = tmp_path / "target"
    calls: list[int] = []
    real = direct.run

    def run(*words: object, **more: object) -> Result:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionLost("cut in the middle")
        return real(*words, **more)  # type: ignore[arg-type]

    direct.run = run  # type: ignore[method-assign]
    direct.put(b"content", str(target), soon())
    assert target.read_bytes() == b"content"
