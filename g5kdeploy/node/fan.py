"""The same work on many nodes at once, and their answers folded into few."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from g5kdeploy.base import nodeset
from g5kdeploy.base.nodeset import fold
from g5kdeploy.base.problem import Problem
from g5kdeploy.node.problems import Result

T = TypeVar("T")
N = TypeVar("N", bound=Hashable)

WAKE_SECONDS = 0.5
LIMIT = 32  # nodes worked on at the same moment
_NODE = "\0"  # stands for a node's name while problems are compared


def fan_out(names: Iterable[N], work: Callable[[N], T], limit: int = LIMIT) -> dict[N, T | Problem]:
    """Do `work(name)` for every name, at most `limit` at once; each one's value or its Problem, in the order given.

    An error that is no Problem is a bug: it is raised when the others are done. An interrupt leaves at once: the
    threads are daemons, and closing the Reach ends what they wait for.
    """
    wanted = list(dict.fromkeys(names))
    todo: queue.SimpleQueue[N] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[N, T | Problem | None, BaseException | None]] = queue.SimpleQueue()
    for name in wanted:
        todo.put(name)

    def worker() -> None:
        while True:
            try:
                name = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((name, work(name), None))
            except Problem as problem:
                done.put((name, problem, None))
            except BaseException as error:  # noqa: BLE001  carried to the caller's thread
                done.put((name, None, error))

    for number in range(min(limit, len(wanted))):
        threading.Thread(target=worker, name=f"fan-out-{number}", daemon=True).start()
    answers: dict[N, T | Problem] = {}
    bug: BaseException | None = None
    try:
        for _ in wanted:
            name, value, error = _next(done)
            if error is not None:
                bug = bug or error
            else:
                answers[name] = value
    except BaseException:
        while not todo.empty():
            todo.get_nowait()
        raise
    if bug is not None:
        raise bug
    return {name: answers[name] for name in wanted}


def _next(answers: queue.SimpleQueue[Any]) -> Any:
    """The next answer. Never one wait without an end: a signal that comes just before it would be seen only after it."""
    while True:
        with contextlib.suppress(queue.Empty):
            return answers.get(timeout=WAKE_SECONDS)


def expand(pattern: str) -> list[str]:
    """The names that a folded word stands for; raises `InvalidUse` when it is none."""
    from g5kdeploy.events.failure import InvalidUse

    try:
        return nodeset.expand(pattern)
    except nodeset.BadSet as bad:
        raise InvalidUse(bad.what, cause=bad.cause, hint=bad.hint) from bad


@dataclass(frozen=True)
class Merged:
    """Nodes that gave the same answer: their names, folded and in full, what they said, their status or problem."""

    nodes: str
    names: tuple[str, ...]
    stdout: str
    stderr: str
    status: int | None
    problem: str


def merge(results: Mapping[str, Result | Problem]) -> list[Merged]:
    """Equal answers together, the largest group first (then by name); a problem may differ in the node's name alone."""
    groups: dict[tuple[str, str, int | None, str], list[str]] = {}
    for name, result in results.items():
        if isinstance(result, Result):
            key: tuple[str, str, int | None, str] = (result.stdout, result.stderr, result.status, "")
        else:
            key = ("", "", None, re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", _NODE, str(result)))
        groups.setdefault(key, []).append(name)
    merged = []
    for (stdout, stderr, status, problem), names in groups.items():
        nodes = fold(names)
        merged.append(Merged(nodes, tuple(names), stdout, stderr, status, problem.replace(_NODE, nodes)))
    return sorted(merged, key=lambda group: (-len(group.names), group.nodes))
