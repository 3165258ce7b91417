"""Test scripts in their own process, on machines that are real SSH servers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.events.event import Emitter, Event, State
from g5kdeploy.node import Reach
from g5kdeploy.vmtest import ScriptFailed, Verdict, on_nodes, run_on_nodes, supervise
from tests.support.sshd import SSHD, SshServer, make_key, write_ssh_config

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="needs sshd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: nodes are entered as root"),
]

NODES = {"vm-1.lab.grid5000.fr": "server", "vm-2.lab.grid5000.fr": "client", "vm-3.lab.grid5000.fr": "client"}
LONG = 300.0


class Nodes:
    """Three nodes, and scripts that run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[Event] = []
        home = folder / "user"
        authorized = make_key(home / ".ssh" / "id_ed25519").with_suffix(".pub").read_text()
        self.servers = [SshServer(folder / name, authorized) for name in NODES]
        ports = zip(NODES, self.servers, strict=True)
        write_ssh_config(home, *(f"Host {n}\n HostName 127.0.0.1\n Port {s.port}\n" for n, s in ports))
        self.reach = Reach(home, "root", folder / "known_hosts")

    def run(self, text: str, seconds: float = LONG) -> Verdict:
        script = self.folder / "test.py"
        script.write_text(text)
        deadline = Deadline.after(seconds, "the test on the nodes")
        emit = Emitter(sinks=[self.events.append])
        return run_on_nodes(self.reach, NODES, script, self.out, deadline, emit)

    @property
    def out(self) -> Path:
        return self.folder / "check"

    def cases(self) -> dict[str, str]:
        """Name → passed, failure or error, as JUnit has it."""
        cases = ET.parse(self.out / "junit.xml").findall(".//testcase")
        return {str(case.get("name")): case[0].tag if len(case) else "passed" for case in cases}

    def seen(self, step: str) -> list[State]:
        return [event.state for event in self.events if event.step == step]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.reach.close()
    for server in nodes.servers:
        server.close()


def test_the_calls_of_a_script(nodes: Nodes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        (nodes.folder / "tree").mkdir()
        (nodes.folder / "tree" / "leaf").write_text("green\n")
        verdict = nodes.run(f"""
start_all()
work = {str(nodes.folder / "work")!r}
assert [m.name for m in machines] == ["server", "client1", "client2"]
assert client is client1 and client is not client2

with subtest("commands"):
    assert server.succeed("echo one", "echo two; echo no >&2") == "one\\ntwo\\n"
    assert server.fail("echo gone; false") == "gone\\n"
    assert server.execute("echo out; exit 7") == (7, "out\\n")
    assert server.execute("false | true")[0] == 1        # pipefail
    assert server.execute("false; true")[0] == 1         # -e
    assert server.execute('echo "$nothing"')[0] != 0     # -u
    assert server.execute("sleep 300", timeout=1)[0] == 124
    assert server.execute("exit 3", check_return=False) == (-1, "")
    assert server.execute("touch " + work + "; sleep 1", check_output=False) == (-2, "")
    server.wait_for_file(work)

with subtest("waiting"):
    client2.wait_for_open_port({listening.getsockname()[1]}, timeout=60)
    client2.wait_for_closed_port({closed.getsockname()[1]}, addr="127.0.0.1")
    count = work + ".count"
    more = f"echo >> {{count}}; test $(wc -l < {{count}})"
    assert client1.wait_until_succeeds(f"{{more}} -ge 2 && echo there") == "there\\n"
    client1.wait_until_fails(f"{{more}} -lt 4")
    retry(lambda last: True)

with subtest("files"):
    server.copy_from_host({str(nodes.folder / "tree")!r}, work + ".d/tree")
    assert server.succeed("cat " + work + ".d/tree/leaf") == "green\\n"
    server.copy_from_host({str(nodes.folder / "tree" / "leaf")!r}, work + ".d/other")
    server.copy_from_machine(work + ".d/tree", "back")
    server.copy_from_vm(work + ".d/other")

t.assertEqual(2, 1 + 1)
log.info("a word")
server.log("another")
print("printed")
""")
    assert verdict.passed and not verdict.reused
    assert "3 subtests" in verdict.words
    assert (nodes.out / "back" / "tree" / "leaf").read_text() == (nodes.out / "other").read_text() == "green\n"
    assert nodes.cases() == dict.fromkeys(("main", "commands", "waiting", "files"), "passed")
    assert nodes.seen("waiting") == [State.START, State.OK]
    notes = {(event.step, event.node, event.detail) for event in nodes.events if event.state is State.NOTE}
    assert {("note", "", "a word"), ("note", "server", "another"), ("output", "", "printed")} <= notes
    log = (nodes.out / "output.log").read_text()
    assert "server: must succeed: echo one" in log and "printed" in log


def test_a_failed_subtest_says_where_and_what_the_machine_said(nodes: Nodes) -> None:
    with pytest.raises(ScriptFailed) as told:
        nodes.run(
            'with subtest("fine"):\n    pass\nwith subtest("bad"):\n    server.succeed("echo seen; echo why >&2; exit 3")\n'
        )
    error = told.value
    assert error.what == "test.py failed in the subtest “bad”"
    assert error.cause.startswith("test.py:4: server: `echo seen; echo why >&2; exit 3` failed with status 3")
    assert "seen\nwhy" in error.cause
    assert error.log == nodes.out / "output.log"
    assert nodes.cases() == {"main": "failure", "fine": "passed", "bad": "failure"}
    assert nodes.seen("bad") == [State.START, State.FAILED]


def test_what_hardware_cannot_do_is_an_error_that_names_the_call(nodes: Nodes) -> None:
    with pytest.raises(ScriptFailed, match=r"test\.py:2: client2\.crash\(\) cannot be done"):
        nodes.run('with subtest("power"):\n    client2.crash()\n')
    assert nodes.cases() == {"main": "error", "power": "error"}


@pytest.mark.parametrize(
    "text", ["import time\ntime.sleep(3600)\n", "while True:\n    pass\n", 'server.succeed("sleep 3600")\n']
)
def test_time_that_is_over_ends_the_script_whatever_it_does(
    nodes: Nodes, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_nodes, "GRACE_SECONDS", LONG - 2)
    monkeypatch.setattr(supervise, "GRACE_SECONDS", LONG)
    with pytest.raises(DeadlinePassed, match=r"test\.py:[12]: the script was not done"):
        nodes.run(text)
    assert nodes.cases() == {"main": "failure"}


def test_a_driver_that_says_nothing_more_is_ended(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that cannot be interrupted: it ignores every signal that can be ignored."""
    monkeypatch.setattr(on_nodes, "GRACE_SECONDS", LONG)
    monkeypatch.setattr(supervise, "GRACE_SECONDS", 5)
    text = (
        "import signal, time\nfor each in (signal.SIGALRM, signal.SIGTERM):\n    signal.signal(each, signal.SIG_IGN)\n"
        "while True:\n    time.sleep(1)\n"
    )
    with pytest.raises(DeadlinePassed):
        nodes.run(text)
    assert set(nodes.cases()) == {"main"} and nodes.cases()["main"] != "passed"


def test_a_script_that_kills_its_own_process_gives_no_verdict(nodes: Nodes) -> None:
    with pytest.raises(ScriptFailed, match="gave no verdict"):
        nodes.run("import os\nos._exit(0)\n")
    assert nodes.cases() == {"main": "error"}
