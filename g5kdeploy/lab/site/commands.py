"""Answers what the frontend's commands ask over a unix socket."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from g5kdeploy.base import files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.site import frontend_program
from g5kdeploy.lab.site.names import Names
from g5kdeploy.lab.site.nodes import Node

log = logging.getLogger(__name__)

POLL_SECONDS = 0.3


class Commands:
    """Answers the frontend's commands; one JSON line a request, JSON lines back.

    `others` answer requests that are about no node, by their `do`.
    """

    def __init__(self, own: Names, nodes: Mapping[str, Node]) -> None:
        self.others: dict[str, Callable[[Mapping[str, Any]], Iterable[dict[str, str]]]] = {}
        self._own = own
        self._nodes = nodes
        self._server: socketserver.ThreadingUnixStreamServer | None = None
        self._ended = threading.Event()

    def start(self, folder: Path) -> None:
        """Listen on `folder`/commands.sock, and write the commands into `folder`/bin."""
        program = Path(frontend_program.__file__).read_text()
        for name in frontend_program.COMMANDS:
            files.write(folder / "bin" / name, program, 0o755)
        path = folder / "commands.sock"
        path.unlink(missing_ok=True)
        answer = self._answer

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    answer(self)

        with files.short(path.parent) as near:
            self._server = socketserver.ThreadingUnixStreamServer(str(near / path.name), Handler)
        self._server.daemon_threads = True
        path.chmod(0o666)
        threading.Thread(target=self._server.serve_forever, name="commands", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, handler: socketserver.StreamRequestHandler) -> None:
        def say(**answer: str) -> None:
            handler.wfile.write(json.dumps(answer).encode() + b"\n")

        try:
            request = json.loads(handler.rfile.readline())
            if (other := self.others.get(request["do"])) is None:
                self._about_node(request, handler, say)
                return
            for answer in other(request):
                say(**answer)
        except Problem as problem:
            say(error=str(problem))
        except OSError:
            raise  # whoever asked has left
        except Exception:
            log.exception("a frontend's command failed")
            say(error="internal error; the lab's log has it")

    def _about_node(
        self, request: Mapping[str, Any], handler: socketserver.StreamRequestHandler, say: Callable[..., None]
    ) -> None:
        try:
            node = self._nodes[self._own.node(self._own.number(str(request["node"])))]
        except (ValueError, KeyError):
            say(error="there is no such node")
            return
        do = request["do"]
        if do == "console":
            self._console(node, handler, bool(request.get("follow")), int(request.get("begin", 0)))
            return
        if do == "on":
            node.power_on(Deadline.after(60, f"power for {node.name}"))
        elif do == "off":
            node.power_off()
        elif do == "reset":
            node.reset()
        say(state="on" if node.on() else "off")

    def _console(self, node: Node, handler: socketserver.StreamRequestHandler, follow: bool, begin: int) -> None:
        """The console's log from a byte on; with `follow` what comes later too, until the reader leaves."""
        while True:
            chunk = b""
            with contextlib.suppress(FileNotFoundError), node.console.open("rb") as file:
                file.seek(begin)
                chunk = file.read(65536)
            if chunk:
                begin += len(chunk)
                handler.wfile.write(json.dumps({"text": chunk.decode(errors="replace")}).encode() + b"\n")
            elif not follow or self._ended.wait(POLL_SECONDS) or _left(handler.connection):
                return


def _left(connection: socket.socket) -> bool:
    """Has the other side closed?"""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
