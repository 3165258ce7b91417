"""The driver's events, one JSON object a line behind a marker; everything else it says is the script's own output."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any, TextIO

MAIN = "main"


class Wire:
    """The driver's end. Safe to use from several threads."""

    def __init__(self, marker: str, stream: TextIO | None = None) -> None:
        self.marker = marker
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, what: str, **fields: Any) -> None:
        """One event: begin/end of a part, boot, call, note."""
        stream = self._stream or sys.stdout
        line = f"{self.marker}{json.dumps({'what': what, **fields})}\n"
        with self._lock:
            stream.flush()
            stream.write(line)
            stream.flush()

    def call(self, machine: str, text: str) -> None:
        """What is being done on a machine, for the log, and for the sentence that says where time ran out."""
        self.send("call", machine=machine, text=text)

    def note(self, text: str, machine: str = "") -> None:
        """Something for the user to see."""
        self.send("note", machine=machine, text=text)


def parse(marker: str, line: str) -> tuple[str, dict[str, Any] | None]:
    """A line of the driver's output: what the script printed, and the event that it carries."""
    printed, found, rest = line.partition(marker)
    if not found:
        return line, None
    try:
        event = json.loads(rest)
    except ValueError:
        return line, None
    return printed, event if isinstance(event, dict) else None
