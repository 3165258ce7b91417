"""Reaching nodes through real OpenSSH servers: a gateway, nodes behind it, and everything that can break on the way."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.node import (
    ConnectionLost,
    HostKeyChanged,
    LoginRefused,
    Reach,
    Remote,
    RemoteFailed,
    Result,
    Unreachable,
    fan_out,
    talk,
    wire,
)
from g5kdeploy.node.remote import Overflow
from tests.support.sshd import SSHD, SshServer, make_key, write_ssh_config

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd")

LONG = 180.0  # seconds: far more than anything here takes, on a machine that is busy with other things


def soon(seconds: float = LONG) -> Deadline:
    return Deadline.after(seconds, "the test")


def until(seen: Callable[[], bool], what: str) -> None:
    deadline = soon()
    while not seen():
        assert not deadline.passed(), what
        time.sleep(0.02)


def block(name: str, server: SshServer, *more: str) -> str:
    return "\n ".join([f"Host {name}", "HostName 127.0.0.1", f"Port {server.port}", f"User {server.user}", *more])


class Site:
    """A gateway, two nodes behind it, one of them also to be had directly, and a home that knows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.key = make_key(self.home / ".ssh" / "id_ed25519")
        self.public = self.key.with_suffix(".pub").read_text()
        self.gateway = SshServer(folder / "gateway", self.public)
        self.nodes = [SshServer(folder / name, self.public) for name in ("n1", "n2")]
        write_ssh_config(
            self.home,
            block("gate", self.gateway),
            block("direct", self.nodes[0]),
            *(block(f"n{i}", node, "ProxyJump gate") for i, node in enumerate(self.nodes, 1)),
        )
        self.user = self.gateway.user

    def close(self) -> None:
        for server in (self.gateway, *self.nodes):
            server.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    made.close()


@pytest.fixture
def reach(site: Site, tmp_path: Path) -> Iterator[Reach]:
    with Reach(site.home, known_hosts=tmp_path / "known_hosts") as made:
        yield made


@pytest.fixture
def node(site: Site, reach: Reach) -> Remote:
    return reach.remote("n1", site.user)


@pytest.fixture
def direct(site: Site, reach: Reach) -> Remote:
    return reach.remote("direct", site.user)


def server(site: Site, tmp_path: Path, *options: str) -> SshServer:
    return SshServer(tmp_path / "own", site.public, *options)


@contextlib.contextmanager
def own_home(tmp_path: Path, *blocks: str) -> Iterator[Reach]:
    write_ssh_config(tmp_path / "h", *blocks)
    with Reach(tmp_path / "h", known_hosts=tmp_path / "known") as reach:
        yield reach


# --- commands


def test_a_command_says_its_words_and_status(node: Remote) -> None:
    lines: list[str] = []
    result = node.run(
        "printf 'o1\\n\\033[31mo2\\033[0m\\nend'; echo e1 >&2; exit 3", soon(), check=False, out=lines.append
    )
    assert (result.stdout, result.stderr, result.status) == ("o1\n\x1b[31mo2\x1b[0m\nend", "e1\n", 3)
    assert sorted(lines) == ["e1", "end", "o1", "o2"]


def test_a_command_that_fails_is_told(node: Remote) -> None:
    with pytest.raises(RemoteFailed, match="n1: `echo it broke >&2; exit 4` failed with status 4: it broke") as caught:
        node.run("echo it broke >&2; exit 4", soon(), hint="mend it")
    assert caught.value.result.status == 4
    assert caught.value.hint == "mend it"


def test_a_command_killed_by_a_signal_is_no_lost_connection(node: Remote) -> None:
    assert node.run("kill -9 $$", soon(), check=False).status == -1


def test_a_command_may_close_its_output_and_go_on(node: Remote) -> None:
    assert node.run("exec >&- 2>&-; sleep 0.3; exit 5", soon(), check=False).status == 5


def test_input_and_output_are_bytes(node: Remote) -> None:
    data = os.urandom(300_000)
    assert node.run("cat", soon(), input=data).data == data
    assert node.run("cat", soon(), input="text\n").stdout == "text\n"
    assert node.run("head -c 3", soon(), input=data).data == data[:3]  # it ends without reading all
    assert node.run("cat", soon()).data == b""


def test_secrets_do_not_show(node: Remote) -> None:
    lines: list[str] = []
    with pytest.raises(RemoteFailed) as caught:
        node.run("echo hunter2; echo hunter2 >&2; exit 1", soon(), out=lines.append, secrets=["hunter2"])
    result = caught.value.result
    assert "hunter2" not in str(caught.value) + result.stdout + result.stderr + "".join(lines)
    assert lines == ["***", "***"]


# --- files


def test_a_large_file_goes_there_and_back(node: Remote, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20) * 40)
    there = tmp_path / "there's" / "deep" / "file"
    node.put(source, str(there), soon(), mode=0o640)
    assert there.read_bytes() == source.read_bytes()
    assert there.stat().st_mode & 0o777 == 0o640
    assert list(there.parent.iterdir()) == [there]
    assert node.get(str(there), tmp_path / "back" / "file", soon()) == 40 << 20
    assert (tmp_path / "back" / "file").read_bytes() == source.read_bytes()


def test_a_file_that_cannot_be_written_or_read_is_told(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(RemoteFailed, match="taken"):
        node.put(b"x", f"{tmp_path}/taken/../taken/file/", soon())
    with pytest.raises(RemoteFailed, match="No such file"):
        node.get(str(tmp_path / "absent"), tmp_path / "back", soon())
    assert not (tmp_path / "back").exists()


def test_a_file_above_the_limit_does_not_come(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 5000)
    with pytest.raises(RemoteFailed, match="larger than"):
        node.get(str(tmp_path / "big"), tmp_path / "back", soon(), limit=4999)
    assert node.get(str(tmp_path / "big"), tmp_path / "back", soon(), limit=5000) == 5000
    with pytest.raises(Overflow, match="more than"):
        node.stream("cat /dev/zero", tmp_path / "back", soon(), limit=100_000)
    assert (tmp_path / "back").stat().st_size == 5000  # the old one is still there
    assert node.run("echo on", soon()).stdout == "on\n"


# --- the gateway


def test_one_connection_to_the_gateway_serves_all_nodes(site: Site, reach: Reach) -> None:
    before = site.gateway.connections, [node.connections for node in site.nodes]
    answers = fan_out(["n1", "n2"] * 3, lambda name: reach.remote(name, site.user).run("echo $$", soon()))
    assert all(isinstance(answer, Result) for answer in answers.values()), answers
    assert site.gateway.connections == before[0] + 1
    assert [node.connections for node in site.nodes] == [count + 1 for count in before[1]]


def test_a_gateway_that_was_cut_is_reached_again(site: Site, reach: Reach) -> None:
    def work(name: str) -> str:
        return reach.remote(name, site.user).run("echo here", soon()).stdout

    for _ in range(4):
        assert fan_out(["n1", "n2"], work) == {"n1": "here\n", "n2": "here\n"}
        assert site.gateway.cut() > 0
        assert fan_out(["n1", "n2"], work) == {"n1": "here\n", "n2": "here\n"}
        site.nodes[0].cut()
        site.gateway.cut()


def test_a_chain_of_gateways(site: Site, tmp_path: Path) -> None:
    second = server(site, tmp_path)
    key = f"IdentityFile {site.key}"
    try:
        with own_home(
            tmp_path,
            block("one", site.gateway, key),
            block("two", second, key, "ProxyJump one"),
            block("three", site.nodes[0], key, "ProxyJump two"),
        ) as reach:
            assert reach.remote("three", None).run("echo deep", soon()).stdout == "deep\n"
            assert second.connections == 1
    finally:
        second.close()


def test_a_node_that_does_not_listen_is_not_blamed_on_the_gateway(site: Site, tmp_path: Path) -> None:
    away = server(site, tmp_path)
    away.refuse()
    key = f"IdentityFile {site.key}"
    with (
        own_home(tmp_path, block("gate", site.gateway, key), block("away", away, key, "ProxyJump gate")) as reach,
        pytest.raises(Unreachable, match="cannot be reached through gate"),
    ):
        reach.remote("away", None).run("true", soon())


def test_a_proxy_command_is_another_way(site: Site, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.py"
    pipe.write_text(
        "import socket, sys, threading, os\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "def up():\n"
        "    while d := os.read(0, 65536): s.sendall(d)\n"
        "    s.shutdown(1)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while d := s.recv(65536): os.write(1, d)\n"
    )
    import sys

    command = f"ProxyCommand {sys.executable} -S {pipe} %p"
    with own_home(tmp_path, block("n", site.nodes[0], command, f"IdentityFile {site.key}")) as reach:
        assert reach.remote("n", None).run("echo piped", soon()).stdout == "piped\n"


# --- what breaks


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


# --- who we are, and who they are


def test_a_refused_login_names_what_was_tried(site: Site, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    with own_home(tmp_path, block("n", site.nodes[0], f"IdentityFile {other}")) as reach:
        with pytest.raises(LoginRefused, match=str(other)):
            reach.remote("n", None).run("true", soon())
        with pytest.raises(LoginRefused):
            reach.remote("n", "nobody").run("true", soon())
    with own_home(tmp_path, block("n", site.nodes[0])) as reach, pytest.raises(LoginRefused, match="no key to try"):
        reach.remote("n", None).run("true", soon())


def test_a_key_with_a_passphrase_is_the_agents(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "locked"
    locked.write_bytes(site.key.read_bytes())
    locked.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", locked], check=True, timeout=60)
    text = block("n", site.nodes[0], f"IdentityFile {locked}")
    with own_home(tmp_path, text) as reach, pytest.raises(LoginRefused, match="needs a passphrase"):
        reach.remote("n", None).run("true", soon())
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until((tmp_path / "agent").exists, "the agent listens")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        subprocess.run(["ssh-add", "-q", site.key], check=True, timeout=60)
        with own_home(tmp_path, text) as reach:
            assert reach.remote("n", None).run("echo in", soon()).stdout == "in\n"
    finally:
        agent.terminate()
        agent.wait(60)


def test_a_new_system_is_trusted_once_and_only_after_forgetting(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path)
    try:
        with own_home(tmp_path, block("n", own, f"IdentityFile {site.key}")) as reach:
            remote = reach.remote("n", None)
            remote.run("true", soon())
            assert (tmp_path / "known").read_text() == f"n {own.host_key}\n"
            own.new_host_key()
            own.cut()
            with pytest.raises(HostKeyChanged, match="n has changed"):
                remote.run("true", soon())
            with pytest.raises(HostKeyChanged):
                remote.wait_ready(soon())
            reach.forget("n")
            remote.wait_ready(soon())
            reach.pin("n", own.host_key)
            assert remote.run("echo same", soon()).stdout == "same\n"
            own.new_host_key()
            reach.pin("n", own.host_key)
            assert remote.run("echo pinned", soon()).stdout == "pinned\n"
    finally:
        own.close()


def test_hashed_names_of_the_users_own_file_count(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path)
    hosts = tmp_path / "hosts"
    hosts.write_text(f"[127.0.0.1]:{own.port} {own.host_key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", hosts], check=True, timeout=60, capture_output=True)
    text = block("n", own, f"IdentityFile {site.key}", f"UserKnownHostsFile {hosts}")
    try:
        with own_home(tmp_path, text) as reach:
            assert reach.remote("n", None).run("echo known", soon()).stdout == "known\n"
            assert not (tmp_path / "known").exists()
            own.new_host_key()
            own.cut()
            with pytest.raises(HostKeyChanged, match=str(hosts)):
                reach.remote("n", None).run("true", soon())
    finally:
        own.close()


# --- waiting, forwarding, OpenSSH


def test_wait_ready_sees_a_server_come(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path)
    own.refuse()
    own.drop_next = 1
    try:
        with own_home(tmp_path, block("n", own, f"IdentityFile {site.key}")) as reach:
            remote = reach.remote("n", None)
            import fabric  # noqa: F401  its time is not the boot's

            with pytest.raises(DeadlinePassed, match="refused the connection"):
                remote.wait_ready(Deadline.after(4, "the boot of n"))
            waiting = threading.Thread(target=remote.wait_ready, args=(soon(),))
            waiting.start()
            own.listen()
            waiting.join(LONG)
            assert not waiting.is_alive()
            assert len(remote.boot_id(soon())) == 36
    finally:
        own.close()


def test_a_port_of_the_node_is_brought_here(node: Remote) -> None:
    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello" * 50_000)

        def log_message(self, *words: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as far:
        serving = threading.Thread(target=far.serve_forever)
        serving.start()
        try:
            with node.forward(far.server_port) as port:
                for _ in range(3):
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LONG) as answer:
                        assert answer.read() == b"hello" * 50_000
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", port), 5).close()
        finally:
            far.shutdown()
            serving.join()


def test_openssh_goes_the_same_way_with_the_same_keys(site: Site, reach: Reach) -> None:
    command = reach.ssh_command("n1", site.user, batch=True)

    def ssh() -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, "echo", "via ssh"], capture_output=True, text=True, timeout=LONG, check=False)

    first = ssh()
    assert (first.stdout, first.returncode) == ("via ssh\n", 0), first.stderr
    pinned = {line.split()[0] for line in reach.known_hosts.read_text().splitlines()}
    assert pinned == {"gate", "n1"}
    assert reach.remote("n1", site.user).run("echo ours", soon()).stdout == "ours\n"  # with the key that ssh pinned
    reach.pin("n1", site.nodes[1].host_key)
    assert ssh().returncode != 0
    with pytest.raises(HostKeyChanged):
        reach.remote("n1", site.user).run("true", soon())
    reach.forget("n1")
    assert reach.remote("n1", site.user).run("echo ours", soon()).stdout == "ours\n"
    assert ssh().returncode == 0
    assert reach.ssh_options(["n1", "n2"], site.user)[0] == "-F"


def test_after_closing_nothing_goes(reach: Reach, node: Remote) -> None:
    node.run("true", soon())
    reach.close()
    with pytest.raises(Unreachable, match="closed"):
        node.run("true", soon())
