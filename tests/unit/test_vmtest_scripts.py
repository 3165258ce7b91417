"""Test scripts: subtests, failures, time that is over, retries."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.vmtest import Kind
from g5kdeploy.vmtest.deployed import DeployedMachine
from g5kdeploy.vmtest.errors import RequestedAssertionFailed, TimeUp, Unsupported, in_seconds
from g5kdeploy.vmtest.plan import Plan
from g5kdeploy.vmtest.script import Script, explained, kind_of, retry
from g5kdeploy.vmtest.wire import Wire, parse

ROOT = Path(__file__).parents[2]


class Ran:
    """A script that was run without machines, and the events that it sent."""

    def __init__(self, folder: Path, text: str) -> None:
        path = folder / "test.py"
        path.write_text(text)
        stream = io.StringIO()
        self.passed = Script(path, [], {}, Wire("@@", stream)).run()
        self.events = [event for line in stream.getvalue().splitlines() if (event := parse("@@", line)[1])]
        self.ends = {event["part"]: event for event in self.events if event["what"] == "end"}


def test_subtests_end_in_their_order(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "with subtest('a'):\n  with subtest('b'):\n    t.assertEqual(1, 1)\n")
    assert ran.passed
    assert [(event["what"], event.get("part")) for event in ran.events] == [
        ("begin", "main"),
        ("begin", "a"),
        ("begin", "b"),
        ("end", "b"),
        ("end", "a"),
        ("end", "main"),
    ]


def test_a_failure_names_the_line_and_ends_every_part_around_it(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "def f():\n    assert 1 == 2, 'not equal'\nwith subtest('a'):\n    f()\nprint('never')\n")
    assert not ran.passed
    for part in ("a", "main"):
        assert ran.ends[part]["kind"] == "failed"
        assert ran.ends[part]["message"] == "test.py:2: AssertionError: not equal"
        assert "line 4: f()" in ran.ends[part]["detail"]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("nobody.succeed('x')", "error", "test.py:1: NameError: name 'nobody' is not defined"),
        ("\nthis is no python", "error", "test.py:2: invalid syntax"),
        ("create_machine({})", "error", "test.py:1: create_machine() cannot be done"),
        ("t.assertEqual(1, 2)", "failed", "test.py:1: AssertionError: 1 != 2"),
        ("retry(lambda last: False, 0)", "failed", "test.py:1: it did not come within 0 s"),
        ("import sys; sys.exit(3)", "failed", "test.py:1: SystemExit: 3"),
    ],
)
def test_how_scripts_end(tmp_path: Path, text: str, kind: str, message: str) -> None:
    end = Ran(tmp_path, text).ends["main"]
    assert end["kind"] == kind
    assert end["message"].startswith(message)


def test_a_script_may_end_itself_early(tmp_path: Path) -> None:
    assert Ran(tmp_path, "import sys\nwith subtest('a'):\n    sys.exit(0)\n").passed


def test_time_that_is_over_is_told_as_such(tmp_path: Path) -> None:
    text = "import builtins\ntry:\n    raise builtins.TIME_UP\nexcept Exception:\n    pass\n"
    import builtins

    builtins.TIME_UP = TimeUp("the script was not done within 5 s")  # type: ignore[attr-defined]
    try:
        end = Ran(tmp_path, text).ends["main"]
    finally:
        del builtins.TIME_UP  # type: ignore[attr-defined]
    assert end["late"] and end["message"] == "test.py:3: the script was not done within 5 s"


def test_what_is_the_system_and_what_is_the_script() -> None:
    assert kind_of(RequestedAssertionFailed("x")) is Kind.FAILED
    assert kind_of(Unsupported("a", "crash", "x")) is Kind.ERROR
    assert kind_of(ZeroDivisionError()) is Kind.ERROR
    assert explained(Unsupported("a", "crash", "why", "do this"), Path("t.py")) == (
        "a.crash() cannot be done",
        "why\ndo this",
    )


def test_retry_takes_a_timedelta_and_asks_a_last_time() -> None:
    asked: list[bool] = []

    def check(last: bool) -> bool:
        asked.append(last)
        return last

    retry(check, timedelta(seconds=0))
    assert asked == [False, True]
    assert in_seconds(timedelta(minutes=1)) == 60


def test_events_travel_behind_what_is_printed() -> None:
    stream = io.StringIO()
    Wire("@m@", stream).note("hello\nworld", "a")
    assert parse("@m@", stream.getvalue()) == ("", {"what": "note", "machine": "a", "text": "hello\nworld"})
    assert parse("@m@", "half a line" + stream.getvalue())[0] == "half a line"
    for line in ("just text", "@m@{broken", "@m@[1]"):
        printed, event = parse("@m@", line)
        assert event is None and (printed == line or not printed)


def driver(folder: Path, text: str, parent: int) -> subprocess.Popen[str]:
    (folder / "test.py").write_text(text)
    plan = Plan("@@", str(folder / "test.py"), str(folder), 600, str(folder), None, str(folder / "known_hosts"))
    plan.save(folder / "plan.json")
    words = [sys.executable, "-m", "g5kdeploy.vmtest.driver", str(folder / "plan.json"), str(parent)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_a_script_that_swallows_everything_is_ended(tmp_path: Path) -> None:
    deaf = "import time\nwhile True:\n  try:\n    print('here', flush=True); time.sleep(1000)\n  except BaseException: pass\n"
    with driver(tmp_path, deaf, os.getpid()) as process:
        assert process.stdout is not None
        while "here" not in process.stdout.readline():
            pass
        process.terminate()
        assert process.wait(120) == 128 + signal.SIGTERM


def test_nothing_runs_for_a_parent_that_is_gone(tmp_path: Path) -> None:
    with driver(tmp_path, "print('never')", os.getpid() + 1) as process:
        said, _ = process.communicate(timeout=120)
        assert (process.returncode, said) == (143, "")


def test_a_console_has_the_nodes_own_name_whatever_its_vlan(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    class Frontend:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, command: str, deadline: Deadline, *, check: bool) -> SimpleNamespace:
            asked.append((self.name, command))
            return SimpleNamespace(stdout="Linux version 6\n", stderr="", status=0)

    reach = SimpleNamespace(remote=lambda name, user: Frontend(name))
    deadline = Deadline.after(60, "a console")
    node = "vm-1-kavlan-4.lab.grid5000.fr"
    machine = DeployedMachine("exporter", node, reach, SimpleNamespace(), deadline, tmp_path)  # type: ignore[arg-type]
    assert machine.get_console_log() == "Linux version 6\n"
    assert asked == [("flab.lab.grid5000.fr", "timeout 10 kaconsole3 -m vm-1.lab.grid5000.fr </dev/null")]
