"""The parent of the driver process: hands on its events, keeps its output, ends it at the deadline, gives the verdict."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from g5kdeploy.base import process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.base.text import clean, human_seconds, tail
from g5kdeploy.events.event import Emitter, State
from g5kdeploy.vmtest import junit
from g5kdeploy.vmtest.plan import Plan
from g5kdeploy.vmtest.verdict import Kind, Part, ScriptFailed, Verdict
from g5kdeploy.vmtest.wire import MAIN, parse

GRACE_SECONDS = 20.0
"""How much longer than the script the driver may take, to say where the script was when its time was over."""
LOG = "output.log"
JUNIT = "junit.xml"


class Supervisor:
    """One run of the driver, seen from outside."""

    def __init__(self, plan: Plan, folder: Path, emit: Emitter) -> None:
        self.plan = plan
        self.folder = folder
        self.emit = emit
        self.script = Path(plan.script)
        self._open: dict[str, float] = {}
        self._parts: list[Part] = []
        self._main: Part | None = None
        self._late = False
        self._last = "it had not begun"
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def run(self, plan_file: Path, deadline: Deadline) -> Verdict:
        """Run the script; its verdict when it passed, else `ScriptFailed` or `DeadlinePassed`. JUnit is written in any case."""
        allowed = deadline.within(self.plan.seconds + GRACE_SECONDS, f"the test script {self.script.name}")
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(word for word in (root, os.environ.get("PYTHONPATH", "")) if word)
        words: list[str | Path] = [sys.executable, "-m", "g5kdeploy.vmtest.driver", plan_file, str(os.getpid())]
        with (self.folder / LOG).open("w") as self._log:
            try:
                done = process.run(words, allowed, check=False, env={"PYTHONPATH": path}, out=self._line)
            except DeadlinePassed as passed:
                self._give_up(f"the script was not done in time; last of all: {self._last}")
                raise self._timeout() from passed
            except BaseException:
                self._give_up("it was interrupted")
                raise
            finally:
                junit.write(self.folder / JUNIT, self.script.stem, self._all(), time.time())
        if self._main is None:
            cause = clean(tail(done.stderr, 5)) or f"its process ended with status {done.returncode}"
            raise ScriptFailed(f"{self.script.name} gave no verdict", cause=cause, log=self.folder / LOG)
        if self._late:
            raise self._timeout()
        if self._main.kind is not Kind.PASSED:
            raise self._failure(self._main)
        machines = tuple(target.host for target in self.plan.targets)
        return Verdict(tuple(self._all()), self._main.seconds, False, machines)

    def _all(self) -> list[Part]:
        return [self._main or Part(MAIN, Kind.ERROR, time.monotonic() - self._began, "no verdict"), *self._parts]

    def _give_up(self, why: str) -> None:
        """Close what is open: the script is not going to."""
        with self._lock:
            for name in list(self._open):
                self._end(Part(name, Kind.FAILED, time.monotonic() - self._open[name], why))

    def _timeout(self) -> DeadlinePassed:
        main = self._main
        cause = f"{main.message}\n{main.detail}".strip() if main else ""
        return DeadlinePassed(
            f"gave up on {self.script.name} after {human_seconds(self.plan.seconds)}",
            cause=f"{cause}\nlast of all: {self._last}".strip(),
            hint="check.timeout in the experiment file gives it more time",
            log=self.folder / LOG,
        )

    def _failure(self, main: Part) -> ScriptFailed:
        failed = [part for part in self._parts if part.kind is not Kind.PASSED]
        where = f" in the subtest “{failed[0].name}”" if failed else ""
        return ScriptFailed(
            f"{self.script.name} failed{where}", cause=f"{main.message}\n{main.detail}".strip(), log=self.folder / LOG
        )

    # What the driver says, a line at a time, from the two threads that read its pipes

    def _line(self, line: str) -> None:
        printed, event = parse(self.plan.marker, line)
        with self._lock, contextlib.suppress(ValueError):  # the log is closed: a thread that the driver left behind
            if printed.strip():
                self._write(printed)
                self.emit.note("output", clean(printed))
            if event is not None:
                self._event(event)

    def _event(self, event: dict[str, Any]) -> None:
        machine, what = str(event.get("machine", "")), event["what"]
        if what in ("call", "note", "output"):
            text = str(event["text"])
            self._write(f"{machine}: {text}" if machine else text)
            if what == "call":
                self._last = f"{machine}: {text}"
            elif what == "note":
                self.emit.note("note", text, machine)
        elif what == "done":
            self._write(f"{machine}: (done in {human_seconds(event['seconds'])}: {event['text']})")
        elif what == "boot":
            self._write(f"{machine}: booting")
            self.emit.emit(machine, "boot", State.START)
        elif what == "booted":
            self._booted(machine, event["problem"], float(event["seconds"]), bool(event["off"]))
        elif what == "begin":
            self._begin(str(event["part"]))
        elif what == "end":
            self._late = self._late or bool(event["late"])
            kind = Kind(event["kind"])
            part = Part(event["part"], kind, float(event["seconds"]), event["message"], event["detail"])
            self._end(part)

    def _booted(self, machine: str, problem: str, seconds: float, off: bool) -> None:
        state = State.FAILED if problem else State.OK
        if problem and off:
            state, problem = State.SKIPPED, "switched off before it was up"
        self._write(f"{machine}: {problem or 'up'} after {human_seconds(seconds)}")
        self.emit.emit(machine, "boot", state, problem, seconds)

    def _begin(self, name: str) -> None:
        self._open[name] = time.monotonic()
        if name != MAIN:
            self._write(f"subtest: {name}")
            self.emit.emit("", name, State.START)

    def _end(self, part: Part) -> None:
        self._open.pop(part.name, None)
        self._write(f"{part.kind}: {part.name} ({human_seconds(part.seconds)})")
        if part.kind is not Kind.PASSED:
            self._write(f"{part.message}\n{part.detail}")
        if part.name == MAIN:
            self._main = part
            return
        self._parts.append(part)
        state = State.OK if part.kind is Kind.PASSED else State.FAILED
        self.emit.emit("", part.name, state, part.message, part.seconds)

    def _write(self, text: str) -> None:
        self._log.write(f"{time.monotonic() - self._began:8.2f} {clean(text).rstrip()}\n")
        self._log.flush()
