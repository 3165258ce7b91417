"""Names, verdicts, JUnit and the rules of test scripts; nothing is booted."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from g5kdeploy.base import folders
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.closure.manifest import Manifest, PathInfo, RoleClosure
from g5kdeploy.events.event import Emitter, Event, State
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.node import Reach
from g5kdeploy.qemu.spec import command_line
from g5kdeploy.vmtest import Kind, Part, ScriptFailed, Verdict, junit, local, run_local, verdict
from g5kdeploy.vmtest.deployed import DeployedMachine
from g5kdeploy.vmtest.errors import RequestedAssertionFailed, Unsupported
from g5kdeploy.vmtest.machine import UNSUPPORTED
from g5kdeploy.vmtest.names import machines_of, names_of, variable, variables
from g5kdeploy.vmtest.plan import Guest, Plan, Target
from g5kdeploy.vmtest.units import Units
from g5kdeploy.vmtest.virtual import _forwarded, _greets
from g5kdeploy.vmtest.wire import Wire


def soon() -> Deadline:
    return Deadline.after(300, "the test")


# ---- names ----------------------------------------------------------------------------------------------------------


def test_a_role_with_one_machine_gives_it_its_name() -> None:
    assert machines_of({"server": 1, "client": 3}) == {
        "server": "server",
        "client1": "client",
        "client2": "client",
        "client3": "client",
    }
    nodes = {"vm-1.lab.grid5000.fr": "client", "vm-2.lab.grid5000.fr": "server", "vm-3.lab.grid5000.fr": "client"}
    assert names_of(nodes) == {
        "client1": "vm-1.lab.grid5000.fr",
        "client2": "vm-3.lab.grid5000.fr",
        "server": "vm-2.lab.grid5000.fr",
    }


def test_variables_follow_the_nixos_driver_and_a_role_stands_for_its_first_machine() -> None:
    assert variable("web-server.a") == "web_server_a"
    assert variable("9front") == "_front"
    roles = machines_of({"my-web": 2, "db": 1})
    assert variables(roles, roles) == {"my_web1": "my-web1", "my_web2": "my-web2", "db": "db", "my_web": "my-web1"}


@pytest.mark.parametrize("counts", [{"web": 2, "web1": 1}, {"web1": 1, "web": 2}, {"my-web": 1, "my_web": 1}])
def test_machines_that_a_script_cannot_tell_apart_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(InvalidUse, match="cannot tell the machines"):
        machines_of(counts)
    nodes = {f"n{i}": role for i, role in enumerate(role for role, count in counts.items() for _ in range(count))}
    with pytest.raises(InvalidUse, match="cannot tell the machines"):
        names_of(nodes)


# ---- verdicts -------------------------------------------------------------------------------------------------------

PASSED = Verdict((Part("main", Kind.PASSED, 12.0), Part("it works", Kind.PASSED, 3.0)), 12.0, False, ("server",))


def test_a_verdict_holds_for_its_inputs_alone() -> None:
    key = verdict.key_of({"a": "/nix/store/x"}, {"a": 1}, "start_all()")
    assert verdict.find(key) is None
    verdict.keep(key, PASSED)
    found = verdict.find(key)
    assert found is not None and found.reused and found.passed and found.parts == PASSED.parts
    assert "reused" in found.words and "1 subtest" in found.words
    for other in (
        verdict.key_of({"a": "/nix/store/y"}, {"a": 1}, "start_all()"),
        verdict.key_of({"a": "/nix/store/x"}, {"a": 2}, "start_all()"),
        verdict.key_of({"a": "/nix/store/x"}, {"a": 1}, "start_all() "),
    ):
        assert other != key and verdict.find(other) is None


def test_failures_are_not_kept_and_damage_is_no_verdict() -> None:
    verdict.keep("failed", Verdict((Part("main", Kind.FAILED, 1.0),), 1.0))
    assert verdict.find("failed") is None
    for content in ("", "{", "[]", "{}", '{"parts": [], "seconds": 1, "machines": []}', '{"parts": [{"name": "x"}]}'):
        path = folders.cache() / "verdicts" / "damaged.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        assert verdict.find("damaged") is None


def manifest(folder: Path) -> Manifest:
    (folder / "initrd").write_bytes(b"initrd")
    role = RoleClosure(
        "/nix/store/top", "/nix/store/k/bzImage", str(folder / "initrd"), "/nix/store/top/init", "quiet", "6.1"
    )
    return Manifest("x86_64-linux", "local-store", {"a": role}, {"/nix/store/top": PathInfo("sha256:0", 1)})


def test_the_driver_runs_once_for_the_same_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Plan] = []
    events: list[Event] = []
    outcome: list[Verdict | Exception] = []

    class Fake:
        def __init__(self, plan: Plan, folder: Path, emit: Emitter) -> None:
            runs.append(plan)

        def run(self, plan_file: Path, deadline: Deadline) -> Verdict:
            assert Plan.load(plan_file) == runs[-1]
            assert all(Path(target.guest.initrd).exists() for target in runs[-1].targets if target.guest)
            given = outcome.pop(0)
            if isinstance(given, Exception):
                raise given
            return given

    monkeypatch.setattr(local, "Supervisor", Fake)
    monkeypatch.setattr(local, "squash", lambda paths, to, deadline, *words: to.write_bytes(b""))
    script, folder = tmp_path / "test.py", tmp_path / "out"
    script.write_text("start_all()\n")

    def test(**more: Any) -> Verdict:
        emit = Emitter(sinks=[events.append])
        return run_local(manifest(tmp_path), {"a": 2}, script, folder, soon(), emit, 60.0, **more)

    outcome[:] = [ScriptFailed("no"), PASSED]
    with pytest.raises(ScriptFailed):
        test()
    assert not (folder / local.STATE).exists()  # keys and disks do not stay
    assert not test().reused and len(runs) == 2
    again = test()
    assert again.reused and len(runs) == 2
    assert any(event.state is State.SKIPPED and "reused" in event.detail for event in events)
    assert len(ET.parse(folder / "junit.xml").findall(".//testcase")) == 2
    outcome[:] = [PASSED, PASSED]
    test(reuse=False)
    script.write_text("start_all() # other\n")
    assert not test().reused and len(runs) == 4
    assert [target.name for target in runs[0].targets] == ["a1", "a2"]


def test_too_many_machines_are_refused(tmp_path: Path) -> None:
    script = tmp_path / "test.py"
    script.write_text("")
    with pytest.raises(InvalidUse, match="201 machines"):
        run_local(manifest(tmp_path), {"a": 201}, script, tmp_path, soon(), Emitter(), 1.0)


# ---- what machines are made of --------------------------------------------------------------------------------------


def guest(name: str = "a1", number: int = 1) -> Guest:
    return Guest(name, number, "/k", "/i", "x store=/dev/vda", "/s", "/f", "/c", "239.1.2.3:20000", "ssh-ed25519 A")


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = Plan(
        "@m@", "/t.py", "/out", 5.0, "/home", None, "/known", [Target("a", "a", "a", guest()), Target("b", "b", "n")]
    )
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


def test_a_guest_is_reached_by_ssh_alone_and_shares_a_network() -> None:
    words = " ".join(command_line(guest().spec(), False, "/f"))
    assert "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22" in words
    assert "socket,id=cable,mcast=239.1.2.3:20000,localaddr=127.0.0.1" in words
    assert "readonly=on" in words
    macs = {mac for number in range(1, 201) for mac in guest(number=number).macs}
    assert len(macs) == 400


class FakeQemu:
    """QEMU's user network, as its monitor tells of it; `then` is done when it is asked."""

    def __init__(self, state: str, then: Callable[[], object] = lambda: None) -> None:
        self.state = state
        self.then = then

    def qmp(self, command: str, **arguments: str) -> str:
        assert (command, arguments) == ("human-monitor-command", {"command-line": "info usernet"})
        self.then()
        return (
            "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
            f"  TCP[{self.state}]      14       127.0.0.1 37541       10.0.2.15    22     0     0\r\n"
            "  TCP[HOST_FORWARD]  12       127.0.0.1 37541       10.0.2.15    22     0     0\r\n"
        )


@pytest.mark.parametrize(("state", "answers"), [("SYN_SENT", False), ("ESTABLISHED", True)])
def test_a_greeting_is_waited_for_once_the_guest_took_the_connection(state: str, answers: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []

        def greet() -> None:
            if not accepted:
                accepted.append(server.accept()[0])
            if state == "ESTABLISHED":
                accepted[0].sendall(b"SSH-2.0-late\r\n")

        qemu: Any = FakeQemu(state, greet)
        assert _greets(qemu, server.getsockname()[1], soon()) is answers
        for channel in accepted:
            channel.close()


def test_the_port_that_qemu_chose_is_found() -> None:
    qemu: Any = FakeQemu("SYN_SENT")
    assert _forwarded(qemu) == 37541
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert not _greets(qemu, closed.getsockname()[1], soon())


# ---- JUnit ----------------------------------------------------------------------------------------------------------


def test_junit_has_main_and_the_subtests(tmp_path: Path) -> None:
    parts = [
        Part("main", Kind.FAILED, 4.5, "test.py:3: no", "  line 3: x\n\x1b[31mred\x00\ufffe"),
        Part("first <&>", Kind.PASSED, 1.0),
        Part("second", Kind.ERROR, 2.0, "a.crash() cannot be done", ""),
    ]
    junit.write(tmp_path / "junit.xml", "test", parts, at=0)
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "time")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "time": "4.500",
    }
    assert suite.get("timestamp") == "1970-01-01T00:00:00"
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["main", "first <&>", "second"]
    failure = cases[0].find("failure")
    assert failure is not None and failure.get("message") == "test.py:3: no"
    assert failure.text == "  line 3: x\nred�"
    assert cases[2].find("error") is not None and cases[1].find("failure") is None


# ---- machines -------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DeployedMachine]:
    with Reach(tmp_path / "nobody") as reach:
        yield DeployedMachine("a", "vm-1.lab.grid5000.fr", reach, Wire("@@", io.StringIO()), soon(), tmp_path)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("crash", ()),
        ("block", ()),
        ("unblock", ()),
        ("reboot", ()),
        ("shutdown", ()),
        ("wait_for_shutdown", ()),
        ("forward_port", (8080, 80)),
        ("send_monitor_command", ("info",)),
        *((call, ("x",)) for call in sorted(UNSUPPORTED)),
    ],
)
def test_what_a_node_cannot_do_is_named(node: DeployedMachine, call: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(Unsupported, match=rf"a\.{call}\(\) cannot be done") as told:
        getattr(node, call)(*arguments)
    assert told.value.call == call and told.value.cause


def test_a_call_that_no_driver_has_is_no_attribute(node: DeployedMachine) -> None:
    with pytest.raises(AttributeError, match="no `fly`"):
        node.fly()
    assert not hasattr(node, "fly")


class FakeUnits(Units):
    """systemd by the words that it would say."""

    name = "a"

    def __init__(self, *states: str, jobs: str = "1 foo.service start waiting") -> None:
        self.states = list(states)
        self.jobs = jobs
        self.asked: list[str] = []

    def execute(self, command: str, *_: object, **__: object) -> tuple[int, str]:
        self.asked.append(command)
        if "list-jobs" in command:
            return 0, self.jobs
        if "journalctl" in command:
            return 0, "its last words"
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return 0, f"ActiveState={state}\n"

    def nested(self, msg: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def retry(self, check: Any, timeout: Any, what: str, last: Any = str) -> None:
        while not check(False):
            pass


def test_a_unit_is_waited_for() -> None:
    units = FakeUnits("inactive", "inactive", "activating", "active")
    units.wait_for_unit("foo.service")
    assert units.asked[0] == "systemctl --no-pager show foo.service --property=ActiveState"


@pytest.mark.parametrize(
    ("state", "jobs"), [("failed", "1 foo.service start waiting"), ("inactive", "No jobs running.")]
)
def test_a_unit_that_will_not_come_is_an_error_at_once(state: str, jobs: str) -> None:
    with pytest.raises(RequestedAssertionFailed, match=r"foo\.service") as told:
        FakeUnits("activating", state, jobs=jobs).wait_for_unit("foo.service")
    assert told.value.cause == "its last words"


def test_a_users_own_units() -> None:
    units = FakeUnits("active")
    units.wait_for_unit("foo.service", "alice")
    inner = "XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user --no-pager show foo.service --property=ActiveState"
    assert units.asked == [f"su -l alice --shell /bin/sh -c '{inner}'"]
    with pytest.raises(RequestedAssertionFailed, match="is active, not failed"):
        units.require_unit_state("foo.service", "failed")


def test_waiting_ends_with_what_was_seen_last(node: DeployedMachine) -> None:
    with pytest.raises(RequestedAssertionFailed, match="the thing: not within 0 s: nothing yet"):
        node.retry(lambda last: False, 0, "the thing", lambda: "nothing yet")
    with pytest.raises(DeadlinePassed):
        soon().within(0, "x").check()
