"""run.json as a value that is never altered, only replaced: on the disk first, then for those who look at it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from g5kdeploy.base import files

Make = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""From the document as it is to its members as they shall be."""


@dataclass(eq=False)
class _Change:
    """A change that is to be written, and whether it was."""

    make: Make
    over: Future[None] = field(default_factory=Future)


class Document:
    """The document in a file; safe to use from several threads.

    Changes that come while another one is being written go to the disk together, so that hundreds of threads which note
    something down at once do not wait for hundreds of writes.
    """

    def __init__(self, path: Path, value: Mapping[str, Any]) -> None:
        self.path = path
        self.value = value
        self._waiting: list[_Change] = []
        self._lock = threading.Lock()
        self._texts: dict[str, tuple[Any, str]] = {}

    def change(self, make: Make) -> None:
        """Replace members; it is on the disk when this returns, and unchanged if it raises."""
        mine = _Change(make)
        self._waiting.append(mine)
        try:
            with self._lock:
                if not mine.over.done():
                    self._write_all()
        finally:  # an interrupt takes back this change, and leaves the others to those who wait for them
            with contextlib.suppress(ValueError):
                self._waiting.remove(mine)
        mine.over.result()

    def see(self, value: Mapping[str, Any]) -> None:
        """What the file says now that another process has written it."""
        with self._lock:
            self.value = value

    def _write_all(self) -> None:
        """Write what waits by now; a change that cannot be made fails alone, and a disk that is full fails all of them."""
        value, made = self.value, []
        for change in [change for change in self._waiting if not change.over.done()]:
            try:
                value = {**value, **change.make(value)}
            except Exception as error:  # noqa: BLE001  who waits for it raises it
                change.over.set_exception(error)
            else:
                made.append(change)
        try:
            files.write(self.path, self._text(value))
        except Exception as error:  # noqa: BLE001  as above
            for change in made:
                change.over.set_exception(error)
            return
        self.value = value
        for change in made:
            change.over.set_result(None)

    def _text(self, value: Mapping[str, Any]) -> str:
        """As `files.write_json` has it; of the nodes, which are long and many, only those that changed are put into words."""
        members = {key: _indented(member) for key, member in value.items() if key != "nodes"}
        nodes = value.get("nodes", {})
        for name, node in nodes.items():
            if name not in self._texts or self._texts[name][0] is not node:
                self._texts[name] = node, f"{json.dumps(name)}: {_indented(node, 4)}"
        listed = ",\n    ".join(self._texts[name][1] for name in nodes)
        members["nodes"] = f"{{\n    {listed}\n  }}" if nodes else "{}"
        return "{\n  " + ",\n  ".join(f"{json.dumps(key)}: {members[key]}" for key in value) + "\n}\n"


def _indented(value: Any, by: int = 2) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n" + " " * by)
