"""Reaching nodes: what can be said without a network."""

from __future__ import annotations

import errno
import getpass
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.failure import ExitCode, InvalidUse, exit_code
from g5kdeploy.node import (
    HostKeyChanged,
    NodeState,
    RemoteFailed,
    Result,
    Stage,
    Unreachable,
    expand,
    fan_out,
    fold,
    merge,
    wire,
)
from g5kdeploy.node.explain import explain
from g5kdeploy.node.hostkeys import HostKey, HostKeys
from g5kdeploy.node.link import Link
from g5kdeploy.node.login import KeyRing, NoKeyTaken
from g5kdeploy.node.settings import Hop, Settings
from g5kdeploy.node.state import WrongStage
from g5kdeploy.node.talk import Broken, Lines, Streams, talk

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/OW9Mz+mU9Eyr8xpHaTVkt4sE1cFKT/iuLqhEi/neE"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFZSq7O+TvryStfl1yaXPk0zwnAdllqfvLoZlOxL5ux6"


def soon(seconds: float = 60) -> Deadline:
    return Deadline.after(seconds, "the test")


def settings(tmp_path: Path, text: str, user: str | None = None) -> Settings:
    (tmp_path / ".ssh").mkdir(exist_ok=True)
    (tmp_path / ".ssh" / "config").write_text(text)
    return Settings(tmp_path, user)


def words(route: tuple[Hop, ...]) -> list[str]:
    return [f"{hop.user}@{hop.host}:{hop.port}" for hop in route]


# --- settings


def test_without_a_configuration_the_name_itself_is_reached(tmp_path: Path) -> None:
    assert words(Settings(tmp_path).route("node-1")) == [f"{getpass.getuser()}@node-1:22"]
    assert words(Settings(tmp_path, "jane").route("node-1", "root")) == ["root@node-1:22"]


def test_the_way_leads_over_every_gateway(tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        """
        Host access
          HostName access.example.org
          User jane
        Host front
          Port 2222
          ProxyJump access
        Host *.site
          ProxyJump boss@front:2022
          User nobody
        """,
        "someone",
    )
    assert words(config.route("n1.site", "root")) == [
        "jane@access.example.org:22",
        "boss@front:2022",
        "root@n1.site:22",
    ]
    assert words(config.route("n1.site"))[-1] == "nobody@n1.site:22"
    assert words(config.route("front"))[-1] == "someone@front:2222"


def test_a_list_of_jumps_is_gone_through_in_order(tmp_path: Path) -> None:
    config = settings(tmp_path, "Host n\n ProxyJump ssh://a@one:21,two\nHost two\n ProxyJump elsewhere\n", "u")
    assert words(config.route("n")) == ["a@one:21", "u@two:22", "u@n:22"]


def test_a_pattern_that_covers_its_own_gateway_makes_no_circle(tmp_path: Path) -> None:
    config = settings(tmp_path, "Host *.site\n ProxyJump gate.site\n", "u")
    assert words(config.route("n.site")) == ["u@gate.site:22", "u@n.site:22"]
    assert words(config.route("gate.site")) == ["u@gate.site:22"]


def test_a_circle_is_named(tmp_path: Path) -> None:
    config = settings(tmp_path, "Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(InvalidUse, match="a → b → a"):
        config.route("a")


def test_a_jump_to_no_machine_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidUse, match="gate:port"):
        settings(tmp_path, "Host a\n ProxyJump gate:port\n").route("a")


def test_files_are_those_of_the_home_given(tmp_path: Path) -> None:
    config = settings(tmp_path, "Host *\n IdentityFile ~/.ssh/mine\n UserKnownHostsFile ~/.ssh/hosts %d/.ssh/more\n")
    for name in ("mine", "hosts", "more"):
        (tmp_path / ".ssh" / name).touch()
    (hop,) = config.route("n")
    assert hop.keys == (tmp_path / ".ssh" / "mine",)
    assert hop.known == (tmp_path / ".ssh" / "hosts", tmp_path / ".ssh" / "more")


def test_default_keys_are_those_of_the_home_given(tmp_path: Path) -> None:
    config = settings(tmp_path, "")
    for name in ("id_rsa", "id_ed25519"):
        (tmp_path / ".ssh" / name).touch()
    assert config.route("n")[0].keys == (tmp_path / ".ssh" / "id_ed25519", tmp_path / ".ssh" / "id_rsa")


def test_includes_stand_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / ".ssh" / "more.d").mkdir(parents=True)
    (tmp_path / ".ssh" / "more.d" / "1").write_text("Host n\n User from-include\n")
    config = settings(tmp_path, "Include more.d/*\nInclude ~/.ssh/absent\nHost n\n User from-file\n")
    assert config.route("n")[0].user == "from-include"


def test_a_file_that_includes_itself_is_a_mistake_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidUse, match="includes itself"):
        settings(tmp_path, "Include config\n").route("n")


def test_a_configuration_that_is_none_is_a_mistake_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidUse, match="cannot be understood"):
        settings(tmp_path, "Port\n").route("n")


@pytest.mark.parametrize(("line", "agent"), [("IdentitiesOnly yes", False), ("IdentityAgent none", False), ("", True)])
def test_whether_the_agent_is_asked(tmp_path: Path, line: str, agent: bool) -> None:
    assert settings(tmp_path, f"Host *\n{line}\n").route("n")[0].agent is agent


def test_a_proxy_command_stands_for_the_way(tmp_path: Path) -> None:
    (hop,) = settings(tmp_path, "Host n\n ProxyCommand nc %h %p\n").route("n")
    assert hop.proxy_command == "nc n 22"
    assert settings(tmp_path, "Host n\n ProxyCommand none\n").route("n")[0].proxy_command == ""


# --- host keys


def hop(name: str = "n1", known: tuple[Path, ...] = ()) -> Hop:
    return Hop(name, "127.0.0.1", 2222, "root", known=known)


def test_the_first_key_is_pinned_and_another_is_refused(tmp_path: Path) -> None:
    keys = HostKeys(tmp_path / "known_hosts")
    keys.check(hop(), HostKey.parse(KEY))
    keys.check(hop(), HostKey.parse(KEY))
    with pytest.raises(HostKeyChanged, match=r"n1 has changed.*SHA256:") as caught:
        keys.check(hop(), HostKey.parse(OTHER))
    assert str(tmp_path / "known_hosts") in caught.value.cause
    assert exit_code(caught.value) is ExitCode.NOT_ALLOWED
    assert (tmp_path / "known_hosts").read_text() == f"n1 {KEY}\n"
    assert (tmp_path / "known_hosts").stat().st_mode & 0o777 == 0o600


def test_a_deployment_allows_one_more_first_sight(tmp_path: Path) -> None:
    keys = HostKeys(tmp_path / "known_hosts")
    keys.check(hop(), HostKey.parse(KEY))
    HostKeys(tmp_path / "known_hosts").forget("n1")  # by another process
    keys.check(hop(), HostKey.parse(OTHER))
    with pytest.raises(HostKeyChanged):
        keys.check(hop(), HostKey.parse(KEY))
    assert keys.pinned("n1") == (HostKey.parse(OTHER),)


def test_a_pin_is_set_without_a_sight(tmp_path: Path) -> None:
    keys = HostKeys(tmp_path / "known_hosts")
    keys.forget("n1")
    keys.pin("n1", HostKey.parse(KEY + " comment"))
    with pytest.raises(HostKeyChanged):
        keys.check(hop(), HostKey.parse(OTHER))
    assert (tmp_path / "known_hosts").read_text() == f"n1 {KEY}\n"


def test_the_users_own_file_vouches_until_the_machine_is_deployed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text(f"garbage\n[127.0.0.1]:2222 {KEY}\n")
    keys = HostKeys(tmp_path / "known_hosts")
    keys.check(hop(known=(own,)), HostKey.parse(KEY))
    assert not (tmp_path / "known_hosts").exists()  # the user's file stays the one that says so
    with pytest.raises(HostKeyChanged, match=str(own)):
        keys.check(hop(known=(own,)), HostKey.parse(OTHER))
    keys.forget("n1")
    keys.check(hop(known=(own,)), HostKey.parse(OTHER))


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-dss AAAA", "ssh-ed25519 !!!"])
def test_what_is_no_host_key_is_told(text: str) -> None:
    with pytest.raises(InvalidUse, match="no SSH host key"):
        HostKey.parse(text)


def test_many_threads_pin_many_names(tmp_path: Path) -> None:
    keys = HostKeys(tmp_path / "known_hosts")
    fan_out([f"n{i}" for i in range(40)], lambda name: keys.check(hop(name), HostKey.parse(KEY)), limit=8)
    assert len((tmp_path / "known_hosts").read_text().splitlines()) == 40


# --- problems


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused the connection"),
        (OSError(errno.EHOSTUNREACH, "x"), "no route to 127.0.0.1"),
        (OSError(errno.ENETUNREACH, "x"), "no route"),
        (TimeoutError("timed out"), "does not answer"),
        (socket.gaierror(-2, "x"), "name 127.0.0.1 is not known"),
        (EOFError(), "closed the connection"),
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


# --- a connection that is dead and does not know


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


# --- many nodes


def test_each_node_has_its_answer_or_its_problem_in_order() -> None:
    def work(name: str) -> str:
        if name == "b":
            raise Unreachable("b is away")
        return name.upper()

    answers = fan_out(["c", "b", "a", "c"], work)
    assert list(answers) == ["c", "b", "a"]
    assert (answers["c"], answers["a"]) == ("C", "A")
    assert isinstance(answers["b"], Problem)
    assert fan_out([], work) == {}


def test_a_bug_is_not_hidden_among_problems() -> None:
    with pytest.raises(ZeroDivisionError):
        fan_out(["a", "b"], lambda name: 1 // 0)


def test_no_more_than_the_limit_at_once() -> None:
    lock, now, most = threading.Lock(), [0], [0]
    full = threading.Event()

    def work(name: str) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == 3:
                full.set()
        assert full.wait(60)
        with lock:
            now[0] -= 1

    fan_out([str(i) for i in range(12)], work, limit=3)
    assert most == [3]


def test_names_fold_and_unfold() -> None:
    names = [f"vm-{i}.lab.grid5000.fr" for i in (1, 2, 3, 5)]
    assert fold(names) == "vm-[1-3,5].lab.grid5000.fr"
    assert expand("vm-[1-3,5].lab.grid5000.fr") == names
    assert expand("@all") == ["@all"]  # no groups of ClusterShell's own configuration
    with pytest.raises(InvalidUse, match="no set of nodes"):
        expand("vm-[1-")


def test_equal_answers_are_merged_the_largest_group_first() -> None:
    def said(text: str, status: int = 0) -> Result:
        return Result(text, "", status, 1.0)

    results = {"n1": said("x"), "n2": said("y"), "n3": said("x"), "n10": said("x", 1)}
    merged = merge({**results, **{name: Unreachable(f"{name} is away") for name in ("n4", "n5")}})
    assert [(group.nodes, group.stdout, group.status, group.problem) for group in merged] == [
        ("n[1,3]", "x", 0, ""),
        ("n[4-5]", "", None, "n[4-5] is away"),
        ("n10", "x", 1, ""),
        ("n2", "y", 0, ""),
    ]


# --- the state of one node


def test_a_node_goes_on_step_by_step() -> None:
    node = NodeState("n1", "server")
    node.reach(Stage.DEPLOYED, kernel="5.10")
    with pytest.raises(WrongStage, match="booted comes first"):
        node.reach(Stage.INSTRUMENTED)
    node.reach(Stage.BOOTED, kernel="6.1")
    node.require(Stage.DEPLOYED)
    with pytest.raises(WrongStage, match="not yet instrumented"):
        node.require(Stage.INSTRUMENTED)
    assert NodeState.from_dict(node.as_dict()) == node
    assert node.facts == {"kernel": "6.1"}


def test_a_lost_node_says_why_until_it_is_deployed_again() -> None:
    node = NodeState("n1", stage=Stage.BOOTED)
    node.lose("it does not answer")
    for use in (lambda: node.require(Stage.RESERVED), lambda: node.reach(Stage.BOOTED)):
        with pytest.raises(WrongStage, match="it does not answer"):
            use()
    node.reach(Stage.DEPLOYED)
    assert node.lost_because == ""


# --- lines


def test_output_is_cut_into_clean_lines() -> None:
    seen: list[str] = []
    lines = Lines(seen.append)
    for block in (b"a\xc3", b"\xa9\r\nb\x1b[2J", b"c\n\xff rest"):
        lines.feed(block)
    lines.end()
    assert seen == ["aé", "bc", "� rest"]
