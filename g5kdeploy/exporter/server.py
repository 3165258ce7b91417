"""HTTP for Prometheus: /metrics in text or OpenMetrics, packed when the client can unpack it."""

from __future__ import annotations

import gzip
import http.server
import logging
import os
import socket
import threading
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .exporter import Exporter
from .exposition import OPENMETRICS, TEXT

log = logging.getLogger(__name__)

_IDLE = 30.0  # seconds a connection may say nothing
_MOST_CONNECTIONS = 128
_FIRST_FD = 3  # where systemd's sockets begin


class ListenError(Exception):
    """The address cannot be listened on, as a sentence."""


def listen(address: str) -> socket.socket:
    """A listening socket: `HOST:PORT`, `:PORT` (every address, both families), `fd://N` (the Nth from systemd)."""
    if address.startswith("fd://"):
        return _inherited(address.removeprefix("fd://"))
    host, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ListenError(f"{address!r} is no address to listen on: HOST:PORT, :PORT or fd://N")
    host = host.removeprefix("[").removesuffix("]")
    try:
        if not host:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            return socket.create_server(("", int(port)), family=family, dualstack_ipv6=both, backlog=128)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=128)
    except OSError as problem:
        raise ListenError(f"cannot listen on {address}: {problem.strerror or problem}") from None


def _inherited(number: str) -> socket.socket:
    count = os.environ.get("LISTEN_FDS", "0") if os.environ.get("LISTEN_PID") == str(os.getpid()) else "0"
    if not number.isdigit() or int(number) >= int(count):
        raise ListenError(f"fd://{number} was not passed: systemd passed {count} sockets")
    return socket.socket(fileno=_FIRST_FD + int(number))


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

    def __init__(self, listening: socket.socket, exporter: Exporter, path: str, debug: bool = False) -> None:
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.exporter = exporter
        self.metrics_path = path
        self.debug = debug
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, but no more than a bound: then the newcomer is turned away."""
        if not self._room.acquire(blocking=False):
            log.warning("more than %d connections: one was turned away", _MOST_CONNECTIONS)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no event; anything else is a mistake of ours and is told."""
        log.debug("connection from %s ended early", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "g5kdeploy-exporter"
    sys_version = ""
    timeout = _IDLE
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
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

    def _metrics(self, names: frozenset[str]) -> None:
        openmetrics = accepts(self.headers.get("Accept", ""), "application/openmetrics-text")
        try:
            body = self.server.exporter.scrape(openmetrics, names)
        except Exception:
            log.exception("the scrape failed")
            self._answer(
                HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", b"the scrape failed, see the log\n"
            )
            return
        self._answer(HTTPStatus.OK, OPENMETRICS if openmetrics else TEXT, body)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        packed = len(body) > 1000 and accepts(self.headers.get("Accept-Encoding", ""), "gzip")
        if packed:
            body = gzip.compress(body, compresslevel=1, mtime=0)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Vary", "Accept, Accept-Encoding")
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
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
