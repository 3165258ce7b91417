"""Serves a WSGI application over HTTP on one address, in threads."""

from __future__ import annotations

import re
import select
import threading
from collections.abc import Callable
from typing import Any

from cheroot import wsgi
from cheroot.server import HTTPConnection, HTTPRequest

from g5kdeploy.base.problem import Problem

THREADS = 64  # so many may be slow, or hang by order, and others are answered


class _FirstLine:
    """A stream whose first line, that of the request, begins its path with a single slash."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readline(self) -> bytes:
        return re.sub(rb"^(\S+) //+", rb"\1 /", self._stream.readline())


class _Request(HTTPRequest):
    """A request whose path may begin with two slashes: else it would be taken for the name of another server.

    The application may say that the connection is closed after its answer.
    """

    def read_request_line(self) -> bool:
        stream, self.rfile = self.rfile, _FirstLine(self.rfile)
        try:
            return bool(super().read_request_line())  # type: ignore[no-untyped-call]
        except ValueError:  # of a path that cannot be taken apart
            self.simple_response("400 Bad Request", "Malformed Request-URI")
            return False
        finally:
            self.rfile = stream

    def send_headers(self) -> None:
        if (b"Connection", b"close") in self.outheaders:  # else it would be said alone
            self.close_connection = True
        super().send_headers()


class _Connection(HTTPConnection):
    RequestHandlerClass = _Request


class _Listener(wsgi.Server):
    """Gives a thread to connections whose client has begun to speak: silent ones hold up nobody."""

    ConnectionClass = _Connection
    expiration_interval = 0.1  # seconds, also until it sees that it is to stop

    def process_conn(self, conn: Any) -> None:
        if conn.rfile.has_data() or _readable(conn.socket.fileno()):
            super().process_conn(conn)
        else:
            self.put_conn(conn)


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class Server:
    """An HTTP server; a context manager that starts and stops it. Port 0 takes a free one, told by `url`."""

    def __init__(self, app: Callable[..., Any], host: str = "127.0.0.1", port: int = 0, threads: int = THREADS) -> None:
        queue = 128  # of connections that come at once; whoever finds it full tries again a second later
        self._server = _Listener(
            (host, port), app, numthreads=threads, server_name="g5k-api", timeout=60, request_queue_size=queue
        )
        self._thread: threading.Thread | None = None
        self.host = host

    @property
    def port(self) -> int:
        """The port that is really listened on."""
        return int(self._server.bind_addr[1])

    @property
    def url(self) -> str:
        """The address without a version: http://127.0.0.1:8000."""
        return f"http://{self.host}:{self.port}"

    def reuse_port(self) -> None:
        """Share the port with a socket that is bound to it and holds it: called before `start`."""
        self._server.reuse_port = True

    def start(self) -> Server:
        """Listen, and serve from a thread; raises `Problem` when the address is taken."""
        try:
            self._server.prepare()
        except OSError as error:
            raise Problem(f"the API cannot listen on {self.host}", cause=str(error)) from error
        self._thread = threading.Thread(target=self._server.serve, name="lab-api", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening and wait for the requests that are being answered."""
        self._server.stop()
        if self._thread is not None:
            self._thread.join(10)
            self._thread = None

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
