"""What a command says and where: the answer on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from g5kdeploy.events.event import Emitter, Sink
    from g5kdeploy.output.progress import Renderer

COLORS = ("auto", "always", "never")


def wants_color(choice: str, environ: Mapping[str, str], stream: TextIO) -> bool:
    """`--color` beats NO_COLOR beats FORCE_COLOR beats the terminal's nature."""
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR") not in (None, "", "0"):
        return True
    return is_terminal(stream) and environ.get("TERM") != "dumb"


def is_terminal(stream: TextIO) -> bool:
    """False also for a stream that is closed already."""
    try:
        return stream.isatty()
    except ValueError:
        return False


@dataclass
class Screen:
    """A command's two streams. `verbosity`: 0 usual, 1 and 2 more, -1 warnings only, -2 errors only."""

    color: str = "auto"
    verbosity: int = 0
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def say(self, text: str) -> None:
        """A line of news on stderr, not with -q."""
        if self.verbosity >= 0:
            self._tell(text)

    def warn(self, text: str) -> None:
        """A warning on stderr, not with -qq."""
        if self.verbosity >= -1:
            self._tell(f"warning: {text}")

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):  # whoever read it went away
            print(text, file=self.err, flush=True)

    def answer(self, document: Mapping[str, Any], form: str = "table", columns: Sequence[str] = ()) -> None:
        """Print the answer on stdout as `-o` wants it; `columns` are those of a table (default: the items' keys)."""
        from g5kdeploy.output.documents import render

        text = render(document, form, columns, color=wants_color(self.color, self.environ, self.out))
        if text:
            print(text, file=self.out)

    def renderer(self, form: str = "auto") -> Renderer:
        """A view of the events: `live`, `plain`, `jsonl` (on stdout), `none`; `auto` looks at the terminal.

        It is a sink, and a context manager that puts the terminal right again when the events are over.
        """
        from g5kdeploy.output.progress import renderer

        return renderer(self, form)

    def emitter(self, *sinks: Sink, run: str = "", phase: str = "") -> Emitter:
        """An emitter for those sinks."""
        from g5kdeploy.events.event import Emitter

        return Emitter(run, phase, list(sinks))
