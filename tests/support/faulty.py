"""A proxy in front of a REST API that breaks what it is told to break, as networks, proxies and servers do."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests


@dataclass
class Fault:
    """What happens to the next `times` requests whose "METHOD path" matches `where`.

    `kind`: "answer" gives `status` and `body` and does not forward; "drop" forwards and then closes without a word;
    "refuse" closes without forwarding; "cut" forwards and answers half of the body; "hang" says nothing; "trickle"
    sends a byte now and then.
    """

    where: str
    kind: str = "answer"
    status: int = 503
    body: str = "Server Unavailable"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/plain; charset=utf-8"})
    times: int = 1


class FaultyProxy:
    """Forwards to `target` ("http://127.0.0.1:8000"); `log` has every request as "METHOD path"."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def fault(self, where: str, kind: str = "answer", **more: object) -> Fault:
        one = Fault(where, kind, **more)  # type: ignore[arg-type]
        self.faults.append(one)
        return one

    def take(self, line: str) -> Fault | None:
        with self._lock:
            self.log.append(line)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.where, line):
                    fault.times -= 1
                    return fault
        return None

    def count(self, where: str) -> int:
        return sum(re.search(where, line) is not None for line in self.log)


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        fault = self.proxy.take(f"{self.command} {self.path}")
        if fault is None:
            self._answer(*self._forward(body))
        elif fault.kind == "answer":
            self._answer(fault.status, fault.body.encode(), fault.headers)
        elif fault.kind == "refuse":
            self._close()
        elif fault.kind == "drop":
            self._forward(body)
            self._close()
        elif fault.kind == "cut":
            status, content, headers = self._forward(body)
            self._answer(status, content[: len(content) // 2], {**headers, "Content-Length": str(len(content))})
            self._close()
        elif fault.kind == "hang":
            self.proxy.stopped.wait(60)
            self._close()
        elif fault.kind == "trickle":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while not self.proxy.stopped.wait(0.2):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    break
            self._close()

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _forward(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length")}
        answer = requests.request(
            self.command, self.proxy.target + self.path, data=body, headers=headers, timeout=60, allow_redirects=False
        )
        kept = {
            k: v
            for k, v in answer.headers.items()
            if k.lower() in ("content-type", "location", "retry-after", "etag", "x-oar-info")
        }
        return answer.status_code, answer.content, kept

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _close(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def proxied(target: str) -> Iterator[FaultyProxy]:
    """A running proxy in front of `target`."""
    proxy = FaultyProxy(target)
    thread = threading.Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopped.set()
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join(10)
