"""Answers and progress: what a person, a pipe and a program see."""

from __future__ import annotations

import csv
import io
import json

import pytest
import yaml

from g5kdeploy.events.event import Emitter, Event, State
from g5kdeploy.output.documents import listing, render, single
from g5kdeploy.output.progress import JsonLines, Live, Plain, line_of, renderer
from g5kdeploy.output.screen import Screen, wants_color

ITEMS = [
    {"name": "vm-1", "free": True, "nodes": ["a", "b"], "extra": None, "text": "two\nlines"},
    {"name": "vm-2", "free": False, "nodes": [], "extra": {"k": 1}, "text": "red \x1b[31m"},
]
DOCUMENT = listing("Things", ITEMS)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_documents_carry_their_kind() -> None:
    for form, parse in (("json", json.loads), ("yaml", yaml.safe_load)):
        found = parse(render(DOCUMENT, form))
        assert (found["apiVersion"], found["kind"]) == ("g5kdeploy/v1", "Things")
        assert found["items"] == ITEMS


def test_a_table_is_whole_and_clean() -> None:
    lines = render(DOCUMENT, "table", ["name", "free", "nodes", "text"]).splitlines()
    assert lines[0].split() == ["NAME", "FREE", "NODES", "TEXT"]
    assert lines[1] == "vm-1  yes   a, b   two lines"
    assert "\x1b" not in lines[2]
    assert "EXTRA" in render(DOCUMENT, "wide").splitlines()[0]
    assert render(listing("Things", []), "table") == ""


def test_other_forms() -> None:
    assert [json.loads(line) for line in render(DOCUMENT, "jsonl").splitlines()] == ITEMS
    assert render(DOCUMENT, "name") == "vm-1\nvm-2"
    rows = list(csv.DictReader(io.StringIO(render(DOCUMENT, "csv"))))
    assert rows[0]["text"] == "two\nlines" and rows[1]["extra"] == "k=1"
    assert render(single("Thing", name="x", size=3), "table") == "name  x\nsize  3"
    assert render(single("Thing", name="x"), "name") == "x"
    assert render(single("Build", run="20261128-1200", phase="build"), "name") == "20261128-1200"
    nested = single("Thing", name="x", none=[], roles={"my_role": {"nar_hash": "h", "size": 3}})
    assert render(nested, "table") == "name  x\nnone  -\nroles\n  my_role\n    nar hash  h\n    size      3"


@pytest.mark.parametrize(
    ("error", "said"), [(KeyboardInterrupt(), "interrupted"), (OSError(28, "no space"), "no space")]
)
def test_why_a_step_ended_is_told_in_words(error: BaseException, said: str) -> None:
    events: list[Event] = []
    with pytest.raises(type(error)), Emitter("run", "build", [events.append]).step("sign"):
        raise error
    assert (events[-1].state, said in events[-1].detail) == (State.FAILED, True)


@pytest.mark.parametrize(
    ("choice", "environ", "terminal", "wanted"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "0"}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_who_decides_on_colours(choice: str, environ: dict[str, str], terminal: bool, wanted: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    assert wants_color(choice, environ, stream) is wanted


def event(state: State, duration: float | None = None, detail: str = "", node: str = "vm-1") -> Event:
    return Event("run", "deploy", node, "pull", state, duration, detail)


def test_an_event_as_a_line() -> None:
    assert line_of(event(State.START)) == "deploy   [vm-1] pull ..."
    assert line_of(event(State.OK, 12.0, "79 MiB")) == "deploy   [vm-1] pull ok (12 s) 79 MiB"
    assert line_of(event(State.FAILED, 1.5, "no\x1b[2J\nroute", "")) == "deploy   pull FAILED (1.5 s): no\n    route"
    whole = Event("run", "build", "", "build", State.FAILED, 1.5, "no\nroute")
    assert line_of(whole) == "build    FAILED (1.5 s): no"
    note = Event("run", "reserve", "", "reserve", State.NOTE, None, "planned on lab/vm")
    assert line_of(note) == "reserve  planned on lab/vm"
    assert line_of(event(State.NOTE, None, "hello")) == "deploy   [vm-1] pull: hello"


def screen(**how: object) -> Screen:
    return Screen(out=io.StringIO(), err=io.StringIO(), environ={}, **how)  # type: ignore[arg-type]


def run_steps(view: object) -> None:
    emit = Emitter(phase="deploy", sinks=[view])  # type: ignore[list-item]
    with emit.step("pull", node="vm-1") as end:
        end.text = "79 MiB"
    emit.warn("slow", "the disk is slow", node="vm-1")


def test_plain_lines_where_there_is_no_terminal() -> None:
    where = screen()
    with renderer(where) as view:
        assert isinstance(view, Plain)
        run_steps(view)
    lines = where.err.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "deploy   [vm-1] pull ..."
    assert lines[1].startswith("deploy   [vm-1] pull ok (")
    assert lines[2] == "deploy   [vm-1] slow WARNING: the disk is slow"
    assert where.out.getvalue() == ""  # type: ignore[attr-defined]


def test_quiet_is_warnings_alone_and_quieter_is_nothing() -> None:
    where = screen(verbosity=-1)
    with renderer(where) as view:
        run_steps(view)
    assert where.err.getvalue().splitlines() == ["deploy   [vm-1] slow WARNING: the disk is slow"]  # type: ignore[attr-defined]
    where = screen(verbosity=-2)
    with renderer(where) as view:
        run_steps(view)
    assert where.err.getvalue() == ""  # type: ignore[attr-defined]


def test_who_watches_may_go_away() -> None:
    seen: list[str] = []

    def gone(event: Event) -> None:
        seen.append(event.step)
        raise BrokenPipeError

    emit = Emitter(sinks=[gone, lambda event: seen.append(event.step)])
    emit.note("one")
    emit.note("two")
    assert seen == ["one", "one", "two"]


def test_json_lines_are_the_answer() -> None:
    where = screen()
    with renderer(where, "jsonl") as view:
        assert isinstance(view, JsonLines)
        run_steps(view)
    events = [json.loads(line) for line in where.out.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert [(one["step"], one["state"]) for one in events] == [("pull", "start"), ("pull", "ok"), ("slow", "warning")]
    assert where.err.getvalue() == ""  # type: ignore[attr-defined]


def test_a_terminal_shows_verdicts_and_a_line_a_node() -> None:
    where = Screen(out=io.StringIO(), err=Terminal(), environ={"TERM": "xterm"})
    with renderer(where) as view:
        assert isinstance(view, Live)
        view(event(State.START))
        view(event(State.START, node="vm-2"))
        text = _rendered(view)
        assert "vm-1" in text and "vm-2" in text and "pull" in text
        view(event(State.OK, 3.0, node="vm-1"))
        assert "vm-1" not in _rendered(view)
    shown = where.err.getvalue()  # type: ignore[attr-defined]
    assert "deploy   [vm-1] pull ok (3 s)" in shown


def _rendered(view: Live) -> str:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=100).print(view._table())
    return out.getvalue()


def test_more_nodes_than_lines_are_counted() -> None:
    view = Live(Terminal(), color=False)
    for number in range(500):
        view(event(State.START, node=f"vm-{number}"))
    text = _rendered(view)
    assert len(text.splitlines()) < 500
    assert "more" in text


def test_a_long_silence_is_broken_by_a_word() -> None:
    import threading

    said = threading.Event()

    class Listening(io.StringIO):
        def write(self, text: str) -> int:
            if "still going on" in text:
                said.set()
            return super().write(text)

    with Plain(Listening(), color=False, heartbeat=0.0) as view:
        view(event(State.START))
        assert said.wait(60)


def test_an_unfit_terminal_gets_plain_lines() -> None:
    where = Screen(out=io.StringIO(), err=Terminal(), environ={"TERM": "dumb"})
    assert isinstance(renderer(where), Plain)
    where = Screen(verbosity=1, out=io.StringIO(), err=Terminal(), environ={"TERM": "xterm"})
    assert isinstance(renderer(where), Plain)
