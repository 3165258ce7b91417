"""Faults in front of the lab's API, ordered one by one: statuses, garbage, cut and slow answers, lost answers."""

from __future__ import annotations

import errno
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

LONGEST = 600.0
"""Seconds after which whatever hangs goes on."""

PHRASES = {status.value: status.phrase for status in HTTPStatus}
GATEWAY_PAGE = "<html><head><title>502 Proxy Error</title></head><body><h1>Proxy Error</h1></body></html>"


@dataclass
class Fault:
    """One order: which requests it meets, how often, and what happens to them."""

    method: str = ".*"
    path: str = ".*"
    times: int = 1
    status: int = 0
    body: str = "Server Unavailable"
    type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    """Send this many bytes of the real answer's body, then close."""
    lost: bool = False
    """Close without an answer; with `execute`, after the request was carried out."""
    execute: bool = True
    slow: float = 0.0
    """Real seconds to wait before answering."""
    gate: threading.Event | None = None
    """The request is carried out, and answered when this is set."""
    hang: threading.Event | None = None
    """The request is neither carried out nor answered before this is set, which taking the order back does."""

    def told(self) -> str:
        """What happens, in words."""
        if self.status:
            return f"status {self.status}" if self.type.startswith("text/plain") else f"garbage, status {self.status}"
        if self.lost:
            return "the answer is lost"
        if self.cut is not None:
            return f"cut after {self.cut} bytes"
        return "hangs" if self.hang is not None else f"{self.slow:g} s late"

    def meets(self, method: str, path: str) -> bool:
        return self.times > 0 and bool(re.fullmatch(self.method, method) and re.search(self.path, path))


class Faults:
    """A WSGI application that hands requests on, but for those that a fault was ordered for."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.asked: deque[tuple[str, str]] = deque(maxlen=100_000)
        """The last requests, as (method, path with query), faulty or not."""
        self._orders: list[Fault] = []
        self._lock = threading.Lock()

    def order(self, **fault: Any) -> Fault:
        """Order a fault; orders are met in their order, each `times` times (once, unless said otherwise)."""
        made = Fault(**fault)
        with self._lock:
            self._orders.append(made)
        return made

    def answer(self, status: int, times: int = 1, retry_after: int | None = None, **more: Any) -> Fault:
        """Order a status (401, 403, 500, 502, 503...) with a text, and Retry-After if wanted."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return self.order(status=status, times=times, headers=headers, **more)

    def garbage(self, times: int = 1, status: int = 200, **more: Any) -> Fault:
        """Order an HTML page where JSON is due."""
        return self.order(status=status, body=GATEWAY_PAGE, type="text/html", times=times, **more)

    def lose_answer(self, method: str = "POST", **more: Any) -> Fault:
        """Order that a request is carried out and its answer never arrives."""
        return self.order(lost=True, method=method, **more)

    def clear(self) -> None:
        """Take all orders back; what hangs goes on."""
        with self._lock:
            for one in self._orders:
                if one.hang is not None:
                    one.hang.set()
            self._orders.clear()

    def orders(self) -> list[Fault]:
        """What is still ordered."""
        with self._lock:
            return [one for one in self._orders if one.times > 0]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        query = environ.get("QUERY_STRING", "")
        path = environ.get("PATH_INFO", "") + (f"?{query}" if query else "")
        with self._lock:
            self.asked.append((method, path))
            fault = next((one for one in self._orders if one.meets(method, path)), None)
            if fault is not None:
                fault.times -= 1
        return self.app(environ, start_response) if fault is None else self._suffer(fault, environ, start_response)

    def _suffer(self, fault: Fault, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if fault.hang is not None:
            fault.hang.wait(LONGEST)
        time.sleep(fault.slow)
        if fault.status:
            body = fault.body.encode()
            headers = {"Content-Type": fault.type, "Content-Length": str(len(body)), **fault.headers}
            start_response(f"{fault.status} {PHRASES.get(fault.status, 'Ordered')}", list(headers.items()))
            return [body]
        if fault.lost and not fault.execute:
            raise ConnectionResetError(errno.ECONNRESET, "ordered")
        kept: list[Any] = []
        body = whole(self.app(environ, lambda *line: kept.append(line)))
        if fault.gate is not None:
            fault.gate.wait(LONGEST)
        if fault.lost:
            raise ConnectionResetError(errno.ECONNRESET, "ordered")
        status, headers_sent = kept[0][:2]
        if fault.cut is None:
            start_response(status, headers_sent)
            return [body]
        start_response(status, headers_sent)
        return cut_short(body[: fault.cut])


def whole(answer: Iterable[bytes]) -> bytes:
    """A body in one piece; the answer is then closed, as WSGI has it of whoever takes one: it may be a file."""
    try:
        return b"".join(answer)
    finally:
        if (close := getattr(answer, "close", None)) is not None:
            close()


def cut_short(body: bytes) -> Iterator[bytes]:
    """A part of a body, and then a connection that closes."""
    yield body
    raise ConnectionResetError(errno.ECONNRESET, "ordered")
