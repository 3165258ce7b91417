"""HTTP and HTTPS for Prometheus: /metrics in text or OpenMetrics, packed when the client can unpack it.

Each connection has a thread, in which also its TLS handshake is made: who says nothing holds up nobody. When there are too
many, the connection that has been waiting longest for its client to say something is closed for the newcomer's sake.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.server
import logging
import socket
import threading
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .exporter import Exporter
from .exposition import OPENMETRICS, TEXT
from .tls import names_of
from .web_config import Web

log = logging.getLogger(__name__)

_IDLE = 30.0  # seconds a connection may say nothing
_HANDSHAKE = 10.0  # seconds for the whole of it
_MOST_CONNECTIONS = 128
_REST = 0.1  # seconds until a connection is accepted again that could not be


def accepts(header: str, wanted: str) -> bool:
    """Whether an Accept or Accept-Encoding header takes `wanted`, by its name and a weight above 0."""
    for part in header.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name.lower() == wanted:
            weights = [p.removeprefix("q=") for p in parameters if p.startswith("q=")]
            try:
                return not weights or float(weights[0]) > 0
            except ValueError:
                return False
    return False


class Server(http.server.ThreadingHTTPServer):
    """Serves an exporter on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, exporter: Exporter, path: str, web: Web, debug: bool = False) -> None:
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.exporter = exporter
        self.metrics_path = path
        self.web = web
        self.debug = debug
        self._lock = threading.Lock()
        self._waiting: dict[int, socket.socket] = {}
        """Connections whose client is to say something, longest first, by descriptor."""
        self._count = 0

    def refuse(self, reason: str) -> None:
        """Count a connection or request that was not answered."""
        self.exporter.own.refused.labels(reason).inc()

    def get_request(self) -> tuple[Any, Any]:
        """The base's: accepts. The listening socket stays ready while no descriptor is free: it must not be asked at once."""
        try:
            return super().get_request()
        except OSError as problem:
            log.warning("a connection cannot be accepted: %s", problem.strerror or problem)
            with self._lock:
                self._make_room()
            time.sleep(_REST)
            raise

    def _make_room(self) -> bool:
        """End the connection that waits longest for its client; False if none does. Under the lock."""
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        with contextlib.suppress(OSError):  # its thread wakes up, and ends it
            socket.socket.shutdown(self._waiting.pop(oldest), socket.SHUT_RDWR)
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, but no more than a bound: room is made, or the newcomer is turned away."""
        number = request.fileno()
        with self._lock:
            full = self._count >= _MOST_CONNECTIONS
            taken = not full or self._make_room()
            if taken:
                self._count += 1
                self._waiting[number] = request
        if full:
            self.refuse("too_many")
        if not taken:
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError as problem:  # this machine gives no further thread
            log.warning("a connection is not served: %s", problem)
            self.refuse("too_many")
            self._end(number, request)

    def _end(self, number: int, request: Any) -> None:
        self.waits(number, None)
        self.shutdown_request(request)
        with self._lock:
            self._count -= 1

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        number = request.fileno()
        try:
            request = self._with_tls(request)
            self.finish_request(request, client_address)
        except _NoTls as problem:
            log.debug("no TLS with %s: %s", client_address, problem)
            self.refuse("tls")
        except OSError as problem:
            log.debug("connection from %s ended early: %s", client_address, problem)
        except Exception:
            log.exception("connection from %s", client_address)
        finally:
            self._end(number, request)

    def waits(self, number: int, connection: socket.socket | None) -> None:
        """Whether a connection (by its descriptor) waits for its client from now on; None: it does not."""
        with self._lock:
            self._waiting.pop(number, None)
            if connection is not None:
                self._waiting[number] = connection

    def _with_tls(self, request: socket.socket) -> socket.socket:
        """The connection, with TLS on it if that is configured. `_NoTls`, and closed, if that does not come about."""
        config = self.web.current()
        if config.context is None:
            return request
        number = request.fileno()
        request.settimeout(_HANDSHAKE)
        wrapped: Any = None
        try:
            wrapped = config.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            self.waits(number, wrapped)
            wrapped.do_handshake()
            if config.allowed_sans and not config.allowed_sans & names_of(wrapped.getpeercert()):
                raise _NoTls("its certificate has another name")
        except (OSError, ValueError, _NoTls) as problem:  # ssl.SSLError is an OSError; ValueError: shut meanwhile
            self.waits(number, None)
            if wrapped is not None:
                self.shutdown_request(wrapped)
            raise _NoTls(problem) from None
        return wrapped  # type: ignore[no-any-return]


class _NoTls(Exception):
    """No encrypted connection came about."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "g5kdeploy-exporter"
    sys_version = ""
    timeout = _IDLE
    disable_nagle_algorithm = True  # head and body are two writes: the second must not wait for the first's receipt
    server: Server

    def handle_one_request(self) -> None:
        """The base's: reads a request and answers it."""
        self.server.waits(self.connection.fileno(), self.connection)
        super().handle_one_request()

    def parse_request(self) -> bool:
        """The base's: reads the headers. The client has said all it is to say."""
        complete = super().parse_request()
        if complete and (self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers):
            self.close_connection = True  # a body, which nobody reads, would be taken for the next request
        self.server.waits(self.connection.fileno(), None)
        return complete

    def do_GET(self) -> None:
        if not self.server.web.in_rate():
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit")
            return
        if not self._may_enter():
            self._refuse(HTTPStatus.UNAUTHORIZED, "password")
            return
        try:
            url = urlsplit(self.path)
        except ValueError:
            self._answer(HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", b"this is no URL\n")
            return
        if url.path == self.server.metrics_path:
            self._metrics(frozenset(parse_qs(url.query).get("name[]", [])))
        elif url.path == "/":
            link = self.server.metrics_path
            page = (
                f'<html><head><title>g5kdeploy exporter</title></head><body><a href="{link}">Metrics</a></body></html>'
            )
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())
        elif url.path == "/maps" and self.server.debug:
            self._answer(HTTPStatus.OK, "text/plain; charset=utf-8", raw_maps(self.server.exporter))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"404 page not found\n")

    do_HEAD = do_GET  # noqa: N815

    def _may_enter(self) -> bool:
        users = self.server.web.current().users
        if not users:
            return True
        kind, _, word = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            user, colon, password = (
                base64.b64decode(word, validate=True).decode(errors="surrogateescape").partition(":")
            )
        except (binascii.Error, ValueError):
            return False
        return bool(colon) and self.server.web.passwords.right(users, user, password)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.server.refuse(reason)
        self._answer(status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode())

    def _metrics(self, names: frozenset[str]) -> None:
        openmetrics = accepts(self.headers.get("Accept", ""), "application/openmetrics-text")
        try:
            packed = accepts(self.headers.get("Accept-Encoding", ""), "gzip")
            body = self.server.exporter.body(openmetrics, names, packed)
        except Exception:
            log.exception("the scrape failed")
            self._answer(
                HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", b"the scrape failed, see the log\n"
            )
            return
        self._answer(HTTPStatus.OK, OPENMETRICS if openmetrics else TEXT, body.text, body.packed)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes, packed: bool = False) -> None:
        self.send_response(status)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Basic")
        for name, value in self.server.web.current().headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Vary", "Accept, Accept-Encoding")
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("%s %s", self.address_string(), format % args)


def raw_maps(exporter: Exporter) -> bytes:
    """Every map's keys and values as they are, for debugging."""
    lines = []
    for reader in exporter.readers:
        lines.append(f"## {reader.config}: {reader.metric.name}")
        lines += [f"{key.hex()} -> {value}" for key, value in reader.reader.read()]
    return "\n".join([*lines, ""]).encode()
