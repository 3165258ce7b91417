"""Views of the event stream: a live terminal with a line per node, plain lines, JSON lines."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from g5kdeploy.base.text import clean, human_seconds
from g5kdeploy.events.event import Event, State
from g5kdeploy.output.screen import Screen, is_terminal, wants_color

if TYPE_CHECKING:
    from rich.console import RenderableType

HEARTBEAT = 60.0  # seconds of silence after which a plain view says that it still waits

WORDS = {
    State.START: "...",
    State.OK: "ok",
    State.FAILED: "FAILED",
    State.SKIPPED: "skipped",
    State.NOTE: "",
    State.WARNING: "WARNING",
}
STYLES = {State.OK: "green", State.FAILED: "bold red", State.SKIPPED: "dim", State.WARNING: "yellow"}


class Renderer(Protocol):
    """A sink of events that is told when they are over."""

    def __call__(self, event: Event) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def renderer(screen: Screen, form: str = "auto") -> Renderer:
    """The view that `form` names (auto, live, plain, jsonl, none), for this screen."""
    if form == "auto":
        form = "live" if is_terminal(screen.err) and screen.environ.get("TERM") != "dumb" else "plain"
        if screen.verbosity > 0:
            form = "plain"  # a log and a live display would write over each other
    if form == "jsonl":
        return JsonLines(screen.out)
    if form == "none" or screen.verbosity < -1:
        return Silent()
    color = wants_color(screen.color, screen.environ, screen.err)
    if form == "live" and screen.verbosity == 0:
        return Live(screen.err, color)
    return Plain(screen.err, color, only_bad=screen.verbosity < 0)


def line_of(event: Event) -> str:
    """One event as one line: `phase  [node] step ... ok (12 s) detail`.

    A phase as a whole is named once; why it failed is told at length when all is over, so here in its first line alone.
    """
    whole = event.step == event.phase and not event.node
    words = [
        event.phase.ljust(8),
        f"[{clean(event.node)}]" if event.node else "",
        "" if whole else clean(event.step),
        WORDS[event.state],
    ]
    if event.duration is not None and event.state is not State.START:
        words.append(f"({human_seconds(event.duration)})")
    line = " ".join(word for word in words if word)
    first, *rest = clean(event.detail).strip().splitlines() or [""]
    if first:
        told = event.state in (State.FAILED, State.WARNING) or (event.state is State.NOTE and not whole)
        line += f": {first}" if told else f" {first}"
    shown = [] if whole and event.state is State.FAILED else rest
    return "\n".join([line, *(f"    {more}" for more in shown)])


class _View:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Silent(_View):
    """Shows nothing."""

    def __call__(self, event: Event) -> None:
        pass


class JsonLines(_View):
    """One JSON object a line, as it happens."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __call__(self, event: Event) -> None:
        print(json.dumps(event.as_dict(), ensure_ascii=False), file=self.stream, flush=True)


class Plain(_View):
    """One line an event, for logs, pipes and screen readers; a word when nothing happened for a minute."""

    def __init__(self, stream: TextIO, color: bool, only_bad: bool = False, heartbeat: float = HEARTBEAT) -> None:
        self.stream = stream
        self.color = color
        self.only_bad = only_bad
        self.heartbeat = heartbeat
        self._running: dict[tuple[str, str, str], float] = {}
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        if not self.only_bad:
            threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def __call__(self, event: Event) -> None:
        with self._lock:
            key = (event.phase, event.node, event.step)
            if event.state is State.START:
                self._running[key] = time.monotonic()
            elif event.duration is not None:
                self._running.pop(key, None)
            if self.only_bad and event.state not in (State.FAILED, State.WARNING):
                return
            self._write(line_of(event), STYLES.get(event.state, ""))

    def _write(self, line: str, style: str) -> None:
        if self.color and style:
            line = f"{_ansi(style)}{line}\x1b[0m"
        print(line, file=self.stream, flush=True)
        self._last = time.monotonic()

    def _beat(self) -> None:
        while not self._over.wait(1.0):
            with self._lock:
                if self._running and time.monotonic() - self._last >= self.heartbeat:
                    (phase, node, step), since = min(self._running.items(), key=lambda item: item[1])
                    where = f"[{clean(node)}] " if node else ""
                    elapsed = human_seconds(time.monotonic() - since)
                    self._write(f"{phase.ljust(8)} {where}{clean(step)} still going on ({elapsed})", "")


def _ansi(style: str) -> str:
    codes = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
    return "\x1b[" + ";".join(codes[word] for word in style.split()) + "m"


class Live(_View):
    """A terminal: verdicts scroll by above, below them one line a node that says what it is doing."""

    def __init__(self, stream: TextIO, color: bool) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self.console = Console(
            file=stream, no_color=not color, highlight=False, markup=False, emoji=False, force_terminal=True
        )
        self._now: dict[tuple[str, str], tuple[str, float]] = {}  # (phase, node) -> step, since
        self._lock = threading.Lock()
        self._live = RichLive(
            get_renderable=self._table,
            console=self.console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now.clear()
        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.stop()

    def __call__(self, event: Event) -> None:
        key = (event.phase, event.node)
        with self._lock:
            if event.state is State.START:
                self._now[key] = (event.step, time.monotonic())
            elif event.duration is not None and self._now.get(key, ("", 0.0))[0] == event.step:
                del self._now[key]
        if event.state is not State.START:
            self.console.print(line_of(event), style=STYLES.get(event.state), soft_wrap=True)

    def _table(self) -> RenderableType:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        with self._lock:
            rows: list[tuple[tuple[str, str], tuple[str, float]]] = sorted(self._now.items())
        limit = max(1, self.console.height - 2)
        for (phase, node), (step, since) in rows[:limit]:
            elapsed = human_seconds(int(time.monotonic() - since))
            cells: list[Any] = [phase, clean(node) or "-", clean(step), elapsed]
            table.add_row(*cells)
        if len(rows) > limit:
            table.add_row("", f"and {len(rows) - limit} more", "", "")
        return table
