"""Connections that are dead, and what is told of them."""

from __future__ import annotations

import errno
import socket
import threading
from pathlib import Path
from typing import Any

import paramiko
import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import ExitCode, exit_code
from g5kdeploy.node import (
    RemoteFailed,
    Result,
    Unreachable,
    wire,
)
from g5kdeploy.node.explain import explain
from g5kdeploy.node.hostkeys import HostKeys
from g5kdeploy.node.link import Link
from g5kdeploy.node.login import KeyRing, NoKeyTaken
from g5kdeploy.node.settings import Hop
from g5kdeploy.node.talk import Broken, Lines, Streams, talk


def soon(seconds: float = 60) -> Deadline:
    return Deadline.after(seconds, "the test")


def hop(name: str = "n1", known: tuple[Path, ...] = ()) -> Hop:
    return Hop(name, "127.0.0.1", 2222, "root", known=known)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused the connection"),
        (OSError(errno.EHOSTUNREACH, "x"), "no route to 127.0.0.1"),
        (OSError(errno.ENETUNREACH, "x"), "no route"),
        (TimeoutError("timed out"), "does not answer"),
        (socket.gaierror(-2, "x"), "name 127.0.0.1 is not known"),
        (EOFError(), "closed the connection"),
        (paramiko.SSHException("No existing session"), "takes the connection and says nothing more"),
        (ValueError("odd"), "odd"),
    ],
)
def test_why_a_machine_cannot_be_reached(error: Exception, said: str) -> None:
    problem = explain(hop(), " through gate", error)
    assert isinstance(problem, Unreachable)
    assert "n1 cannot be reached through gate" in problem.what
    assert said in problem.cause


def test_a_refused_login_names_the_keys() -> None:
    problem = explain(hop(), "", NoKeyTaken(["/home/me/id_rsa", "work from the agent"]))
    assert "root@n1" in problem.what
    assert "/home/me/id_rsa, work from the agent" in problem.cause
    assert exit_code(problem) is ExitCode.NOT_ALLOWED
    assert "no key to try" in explain(hop(), "", NoKeyTaken([])).cause


def test_a_failed_command_tells_its_last_words() -> None:
    failed = RemoteFailed("n1", "first line\nsecond", Result("out\n", "\x1b[1mbad\x1b[0m\n", 7, 0.1))
    assert str(failed) == "n1: `first line…` failed with status 7: bad"
    assert "killed by a signal" in str(RemoteFailed("n1", "x", Result("", "", -1, 0.1)))


class Dead:
    """A transport that says it is active, and fails whatever is asked of it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def is_active(self) -> bool:
        return True

    def open_session(self, timeout: float = 0) -> Any:
        raise self.error


class Fake:
    """The shape of a fabric Connection that `Link` uses."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.client = self

    def close(self) -> None:
        self.transport = None


class Channel:
    transport = None


class Living(Dead):
    def open_session(self, timeout: float = 0) -> Any:
        return Channel()


@pytest.mark.parametrize("error", [EOFError(), OSError("Socket is closed"), RuntimeError("from its thread")])
def test_a_dead_connection_is_replaced_before_anything_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    link = Link(hop(), None, HostKeys(tmp_path / "k"), KeyRing())
    made = iter([Fake(Dead(error)), Fake(Living(error))])
    monkeypatch.setattr(link, "_open", lambda deadline: next(made))
    assert isinstance(link.channel(soon(), lambda transport, seconds: transport.open_session()), Channel)


def test_two_dead_connections_in_a_row_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(hop(), None, HostKeys(tmp_path / "k"), KeyRing())
    monkeypatch.setattr(link, "_open", lambda deadline: Fake(Dead(EOFError())))
    with pytest.raises(Unreachable, match="n1 cannot be reached"):
        link.channel(soon(), lambda transport, seconds: transport.open_session())


def test_one_opens_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(hop(), None, HostKeys(tmp_path / "k"), KeyRing())
    go, opened = threading.Event(), []

    def open_once(deadline: Deadline) -> Any:
        assert go.wait(60)
        opened.append(1)
        return Fake(Living(EOFError()))

    monkeypatch.setattr(link, "_open", open_once)
    threads = [threading.Thread(target=link.connection, args=(soon(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(60)
    assert opened == [1]


class Ended:
    """A channel of paramiko's whose command is over: its status is known, the end of its output may not be."""

    def __init__(self, status: int, eof: bool) -> None:
        from paramiko.buffered_pipe import BufferedPipe

        self.in_buffer, self.in_stderr_buffer = BufferedPipe(), BufferedPipe()
        self.in_buffer.feed(b"half")
        for buffer in (self.in_buffer, self.in_stderr_buffer):
            buffer.close()
        self.closed, self.eof_received, self.exit_status = True, eof, status
        self.status_event = threading.Event()
        self.status_event.set()

    def exec_command(self, command: str) -> None:
        """It ran."""

    def shutdown_write(self) -> None:
        """Nothing to say."""

    def recv_ready(self) -> bool:
        return bool(self.in_buffer.read_ready())

    def recv_stderr_ready(self) -> bool:
        return False

    def recv(self, count: int) -> bytes:
        return bytes(self.in_buffer.read(count))

    def exit_status_ready(self) -> bool:
        return True


def ended(status: int, eof: bool, lives: bool) -> tuple[int, bytes]:
    said = bytearray()
    streams = Streams(said.extend, said.extend)
    channel: Any = Ended(status, eof)
    return talk(channel, "x", None, streams, soon(), lambda: lives, lambda: None), bytes(said)


def test_a_status_counts_when_all_output_came() -> None:
    assert ended(3, eof=True, lives=False) == (3, b"half")
    assert ended(3, eof=False, lives=True) == (3, b"half")
    assert ended(-1, eof=True, lives=True) == (-1, b"half")
    for status, eof in ((0, False), (-1, False), (-1, True)):
        with pytest.raises(Broken):
            ended(status, eof, lives=False)


class Sender:
    """A transport that notes the kinds of messages it was given."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def _send_user_message(self, message: Any) -> None:
        self.sent.append(message.asbytes()[0])


def test_nothing_is_sent_on_a_channel_after_its_close() -> None:
    import paramiko

    sender: Any = Sender()
    view = wire.Orderly(sender)
    for kind in (94, 96, 97, 94, 96, 97):  # data, end of file, close
        message = paramiko.Message()
        message.add_byte(bytes([kind]))
        view._send_user_message(message)
    assert sender.sent == [94, 96, 97]


def test_output_is_cut_into_clean_lines() -> None:
    seen: list[str] = []
    lines = Lines(seen.append)
    for block in (b"a\xc3", b"\xa9\r\nb\x1b[2J", b"c\n\xff rest"):
        lines.feed(block)
    lines.end()
    assert seen == ["aé", "bc", "� rest"]
