"""Journals that were collected, in the form of `journalctl --output=export`, made readable again."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from g5kdeploy.base.text import clean

Entry = dict[str, str]
LARGEST = 1 << 24  # bytes of one field: more is no journal


def read(path: Path) -> Iterator[Entry]:
    """The entries of an export file, gzip'ed or not; a file that was cut short ends where it was cut."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with gzip.open(raw) if zipped else raw as file:
            try:
                yield from _entries(file)
            except (EOFError, gzip.BadGzipFile):
                return


def _entries(file: IO[bytes] | gzip.GzipFile) -> Iterator[Entry]:
    entry: Entry = {}
    for line in file:
        if line == b"\n":
            if entry:
                yield entry
            entry = {}
            continue
        name, equals, value = line.rstrip(b"\n").partition(b"=")
        if not equals:  # a field with any bytes in it: its length in 8 bytes, then itself, then a newline
            size = int.from_bytes(file.read(8), "little")
            if size > LARGEST:
                return
            value = file.read(size)
            file.read(1)
        entry[name.decode(errors="replace")] = value.decode(errors="replace")
    if entry:
        yield entry


def lines(entries: Iterable[Entry], unit: str | None = None) -> Iterator[str]:
    """Entries as journalctl shows them (`short-iso`), of one systemd unit if it is named."""
    wanted = None if unit is None else unit if "." in unit else f"{unit}.service"
    for entry in entries:
        if wanted is not None and wanted not in (entry.get("_SYSTEMD_UNIT"), entry.get("UNIT")):
            continue
        moment = int(entry.get("__REALTIME_TIMESTAMP", "0")) / 1e6
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(moment))
        who = entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM") or "?"
        pid = entry.get("_PID")
        said = clean(entry.get("MESSAGE", "")).replace("\n", "\n    ")
        yield f"{stamp} {entry.get('_HOSTNAME', '?')} {who}{f'[{pid}]' if pid else ''}: {said}"
