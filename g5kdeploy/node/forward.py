"""A local TCP port that leads to a port as a machine sees it."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.failure import Failure
from g5kdeploy.node.link import Link

log = logging.getLogger(__name__)

OPEN = 60.0  # seconds for one forwarded connection to be made
BLOCK = 1 << 16


class Forward:
    """Listens on 127.0.0.1 while entered; each connection gets a channel of the machine's connection.

    `local` is the port to listen on (0: any free one). `told` hears of connections that could not be made.
    """

    def __init__(
        self, link: Link, host: str, port: int, local: int = 0, told: Callable[[Problem], None] | None = None
    ) -> None:
        self._link = link
        self._target = (host, port)
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._lock = threading.Lock()
        self._open: set[Any] = set()  # sockets and channels of connections that run
        self._told = told
        self.port = local

    def __enter__(self) -> Forward:
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind(("127.0.0.1", self.port))
        except OSError as error:
            self._listener.close()
            raise Failure(f"port {self.port} of this machine cannot be had", cause=error.strerror or "") from error
        self._listener.listen(64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"forward-{self.port}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            _end(end)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), name="forwarded", daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            far = self._link.tunnel(*self._target, Deadline.after(OPEN, f"a connection to {self._target[0]}"))
        except Problem as problem:  # who connected sees a connection that closes, as from a server that is away
            log.debug("forward to %s:%s: %s", *self._target, problem)
            near.close()
            if self._told is not None:
                self._told(problem)
            return
        with self._lock:
            self._open |= {near, far}
        back = threading.Thread(target=_copy, args=(far, near), name="forwarded-back", daemon=True)
        back.start()
        _copy(near, far)
        back.join()
        with self._lock:
            self._open -= {near, far}
        for end in (near, far):
            _end(end)


def _copy(source: Any, sink: Any) -> None:
    """Everything from one end to the other, then the end of the stream."""
    with contextlib.suppress(Exception):
        while block := source.recv(BLOCK):
            sink.sendall(block)
    with contextlib.suppress(Exception):
        sink.shutdown(socket.SHUT_WR)


def _end(end: Any) -> None:
    with contextlib.suppress(Exception):
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(Exception):
        end.close()
