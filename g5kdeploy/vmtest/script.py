"""What a test script finds around it, and how it is run: the NixOS test driver's globals, subtests, the line that failed."""

from __future__ import annotations

import contextlib
import time
import traceback
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.base.text import human_seconds
from g5kdeploy.node import fan_out
from g5kdeploy.vmtest.errors import RequestedAssertionFailed, TimeUp, Unsupported, in_seconds
from g5kdeploy.vmtest.machine import PATIENCE, Machine
from g5kdeploy.vmtest.names import variables
from g5kdeploy.vmtest.verdict import Kind
from g5kdeploy.vmtest.wire import MAIN, Wire


class Log:
    """The script's `log`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def log(self, msg: str, attrs: Mapping[str, str] | None = None) -> None:
        """Say something; `attrs` may name the machine."""
        self._wire.note(msg, (attrs or {}).get("machine", ""))

    info = warning = error = log

    @contextlib.contextmanager
    def nested(self, msg: str, attrs: Mapping[str, str] | None = None) -> Iterator[None]:
        """What the block does."""
        self.log(msg, attrs)
        yield


class Script:
    """One run of a script: `machines` in their order, `roles` machine → role."""

    def __init__(self, path: Path, machines: Sequence[Machine], roles: Mapping[str, str], wire: Wire) -> None:
        self.path = path
        self.machines = list(machines)
        self._roles = roles
        self._wire = wire

    def run(self) -> bool:
        """Run it to its end; True when it passed. Everything is told to the wire."""
        began = time.monotonic()
        with contextlib.suppress(_Told):
            with self._part(MAIN, began):
                code = compile(self.path.read_bytes(), str(self.path), "exec")
                exec(code, self.globals())  # noqa: S102  that is what a test script is for
            return True
        return False

    def globals(self) -> dict[str, Any]:
        """The names that the script may use."""
        by_name = {machine.name: machine for machine in self.machines}
        names = {name: by_name[machine] for name, machine in variables(by_name, self._roles).items()}
        case = unittest.TestCase()
        case.maxDiff = None
        return {
            **{call: _refused(call, why) for call, why in _UNSUPPORTED.items()},
            "__name__": "__main__",
            "__file__": str(self.path),
            "start_all": self.start_all,
            "join_all": self.join_all,
            "machines": self.machines,
            "vms": self.machines,
            "subtest": self.subtest,
            "log": Log(self._wire),
            "retry": retry,
            "serial_stdout_on": lambda: None,
            "serial_stdout_off": lambda: None,
            "Machine": Machine,
            "t": case,
            **names,
        }

    def start_all(self) -> None:
        """Switch on every machine; they boot side by side."""
        for machine in self.machines:
            machine.start()

    def join_all(self) -> None:
        """Wait until every machine is off."""
        answers = fan_out([m.name for m in self.machines], lambda name: self._named(name).wait_for_shutdown())
        for answer in answers.values():
            if isinstance(answer, Problem):
                raise answer

    def _named(self, name: str) -> Machine:
        return next(machine for machine in self.machines if machine.name == name)

    @contextlib.contextmanager
    def subtest(self, name: str) -> Iterator[None]:
        """A part of the script with a verdict of its own; when it fails the script ends."""
        with self._part(name, time.monotonic()):
            yield

    @contextlib.contextmanager
    def _part(self, name: str, began: float) -> Iterator[None]:
        self._wire.send("begin", part=name)
        try:
            yield
        except SystemExit as error:
            if error.code not in (None, 0):
                self._ended(name, began, Kind.FAILED, *explained(error, self.path))
                raise _Told from error
        except _Told as told:
            cause = told.__cause__
            assert cause is not None
            self._ended(name, began, kind_of(cause), *explained(cause, self.path))
            raise
        except BaseException as error:
            self._ended(
                name, began, kind_of(error), *explained(error, self.path), isinstance(error, TimeUp | DeadlinePassed)
            )
            raise _Told from error
        self._ended(name, began, Kind.PASSED)

    def _ended(
        self, name: str, began: float, kind: Kind, message: str = "", detail: str = "", late: bool = False
    ) -> None:
        seconds = time.monotonic() - began
        self._wire.send("end", part=name, kind=kind, seconds=seconds, message=message, detail=detail, late=late)


class _Told(BaseException):
    """The error behind this one was told of; parts around it end, too."""


def kind_of(error: BaseException) -> Kind:
    """Did the system fail the test, or is something wrong with the test?"""
    if isinstance(error, Unsupported):
        return Kind.ERROR
    return Kind.FAILED if isinstance(error, AssertionError | Problem | TimeUp | SystemExit) else Kind.ERROR


def explained(error: BaseException, path: Path) -> tuple[str, str]:
    """One line for an error (script, line, what), and the rest: the line's text, cause, hint."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path.name}:{error.lineno}: {error.msg}", (error.text or "").rstrip()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f"{path.name}:{frames[-1].lineno}: " if frames else ""
    if isinstance(error, Problem):
        what, more = error.what, [error.cause, error.hint]
    elif isinstance(error, TimeUp):
        what, more = str(error), []
    else:
        said = "".join(traceback.format_exception_only(error)).strip()
        what, _, rest = said.partition("\n")
        more = [rest]
    calls = [f"  line {frame.lineno}: {(frame.line or '').strip()}" for frame in frames]
    return where + what, "\n".join(text for text in [*calls, *more] if text.strip())


def retry(fn: Callable[[bool], bool], timeout: float | timedelta = PATIENCE) -> None:
    """Call `fn(False)` once a second until it is true; at the end once more, with True."""
    until = time.monotonic() + in_seconds(timeout)
    while not fn(False):
        if time.monotonic() >= until:
            if fn(True):
                return
            raise RequestedAssertionFailed(f"it did not come within {human_seconds(in_seconds(timeout))}")
        time.sleep(1)


_UNSUPPORTED = {
    "create_machine": "the machines are those of the composition's roles",
    "polling_condition": "conditions are not watched behind the script's back",
}


def _refused(call: str, why: str) -> Callable[..., object]:
    def refuse(*_: object, **__: object) -> object:
        raise Unsupported("", call, why)

    return refuse
