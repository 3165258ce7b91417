"""The scraper that runs on a node: reads exporters at an interval, writes what they say into closed gzip'ed segments.

It is one file for a bare python3-minimal (no json, no gzip, no http.client there), started as

    scraper_program.py FOLDER INTERVAL NAME=URL...

In FOLDER: `segments/START-NUMBER.gz` (START: microseconds since 1970 when this scraper started), complete as soon as
they have that name. `control` is a FIFO: for each word written to it every target is read once more, the segment is
closed, and `done/WORD` says per target "NAME " or "NAME what went wrong". A segment's text is a sequence of

    #scrape TIME SECONDS NAME BYTES ERROR
    BYTES bytes as the exporter gave them, and a newline

where TIME is the unix time at which the reading began, and ERROR is the rest of the line, or nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
import zlib
from pathlib import Path

TIMEOUT = 10.0  # seconds for one target
AGE = 10.0  # seconds after which a segment is closed
SIZE = 4 << 20  # bytes of text after which it is closed
MOST = 64 << 20  # bytes that one target may say


def read(url: str, timeout: float = TIMEOUT) -> bytes:
    """The body behind an http:// URL; raises OSError or ValueError."""
    if not url.startswith("http://"):
        raise ValueError("only http:// is read")
    place, _, path = url[len("http://") :].partition("/")
    host, _, port = place.rpartition(":") if ":" in place.rpartition("]")[2] else (place, "", "80")
    until = time.monotonic() + timeout
    with socket.create_connection((host.strip("[]"), int(port)), timeout) as wire:
        lines = (f"GET /{path} HTTP/1.0", f"Host: {place}", "Accept: text/plain;version=0.0.4", "Connection: close", "")
        wire.sendall("".join(f"{line}\r\n" for line in lines).encode())
        data = drain(wire, until)
    head, blank, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if not blank or len(words) < 2 or not words[0].startswith("HTTP/"):
        raise ValueError("the answer is not HTTP")
    if words[1] != "200":
        raise ValueError("HTTP status " + " ".join(words[1:]))
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    if "chunked" in fields.get("transfer-encoding", ""):
        return unchunk(body)
    length = fields.get("content-length", "")
    if length and len(body) != int(length):
        raise ValueError(f"{len(body)} of {length} bytes came")
    return body


def drain(wire: socket.socket, until: float) -> bytes:
    """Everything up to the end of the stream, before the monotonic time `until`."""
    blocks: list[bytes] = []
    size = 0
    while True:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        wire.settimeout(left)
        block = wire.recv(1 << 16)
        if not block:
            return b"".join(blocks)
        blocks.append(block)
        size += len(block)
        if size > MOST:
            raise ValueError(f"more than {MOST} bytes")


def unchunk(data: bytes) -> bytes:
    """The content of a chunked body; raises ValueError when it is cut."""
    out: list[bytes] = []
    while True:
        size, line, data = data.partition(b"\r\n")
        if not line:
            raise ValueError("the chunked answer was cut")
        count = int(size.split(b";")[0], 16)
        if count == 0:
            return b"".join(out)
        if len(data) < count + 2:
            raise ValueError("the chunked answer was cut")
        out.append(data[:count])
        data = data[count + 2 :]


class Segments:
    """Texts, gathered and written as files that are complete or absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start = int(time.time() * 1e6)
        self.number = 0
        self.texts: list[bytes] = []
        self.size = 0
        self.since = time.monotonic()

    def add(self, text: bytes) -> None:
        if not self.texts:
            self.since = time.monotonic()
        self.texts.append(text)
        self.size += len(text)

    def due(self) -> bool:
        return bool(self.texts) and (self.size >= SIZE or time.monotonic() - self.since >= AGE)

    def close(self) -> None:
        """Write what was gathered; nothing happens without."""
        if not self.texts:
            return
        self.number += 1
        path = self.folder / f"{self.start:016d}-{self.number:08d}.gz"
        aside = path.with_suffix(".part")
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: with the header and check sum of gzip
        with aside.open("wb") as file:
            file.writelines(packer.compress(text) for text in self.texts)
            file.write(packer.flush())
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        self.texts, self.size = [], 0


def one(name: str, url: str, results: dict[str, tuple[bytes, str]]) -> None:
    """Read one target; its record and its error go into `results`."""
    began, ticks = time.time(), time.monotonic()
    body, error = b"", ""
    try:
        body = read(url)
    except (OSError, ValueError) as problem:
        error = " ".join(str(problem).split()) or type(problem).__name__
    seconds = time.monotonic() - ticks
    head = f"#scrape {began:.6f} {seconds:.6f} {name} {len(body)} {error}\n"
    results[name] = (head.encode() + body + b"\n", error)


def scrape(targets: list[tuple[str, str]], segments: Segments) -> dict[str, str]:
    """Read every target at once; name -> error."""
    results: dict[str, tuple[bytes, str]] = {}
    threads = [threading.Thread(target=one, args=(name, url, results)) for name, url in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, _ in targets:
        segments.add(results[name][0])
    return {name: results[name][1] for name, _ in targets}


def answer(done: Path, word: str, errors: dict[str, str]) -> None:
    """Tell whoever asked for a scrape that it is safe, and what became of each target."""
    aside = done / f"{word}.part"
    aside.write_text("".join(f"{name} {error}\n" for name, error in errors.items()))
    aside.rename(done / word)


def main(folder: Path, interval: float, targets: list[tuple[str, str]]) -> None:
    """Scrape until told to stop by SIGTERM or SIGINT; the segment that is open then is closed first."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: stopping.append(got))
    done = folder / "done"
    done.mkdir(parents=True, exist_ok=True)
    segments = Segments(folder / "segments")
    with contextlib.suppress(FileExistsError):
        os.mkfifo(folder / "control")
    control = os.open(folder / "control", os.O_RDWR | os.O_NONBLOCK)  # for writing too: so it never ends
    rest = b""
    due = time.monotonic()
    while not stopping:
        ready, _, _ = select.select([control, woken], [], [], max(0.0, due - time.monotonic()))
        if control in ready:
            *asked, rest = (rest + os.read(control, 4096)).split(b"\n")
            words = [Path(word.decode("ascii", "ignore")).name for word in asked]
            if any(words):
                errors = scrape(targets, segments)
                segments.close()
                for word in filter(None, words):
                    answer(done, word, errors)
        if time.monotonic() >= due and not stopping:
            scrape(targets, segments)
            due = max(due + interval, time.monotonic())  # a slow target: no burst afterwards
        if segments.due():
            segments.close()
    segments.close()


if __name__ == "__main__":
    pairs = [word.partition("=") for word in sys.argv[3:]]
    main(Path(sys.argv[1]), float(sys.argv[2]), [(name, url) for name, _, url in pairs])
