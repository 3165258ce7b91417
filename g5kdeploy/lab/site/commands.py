"""What the frontend offers in the shell: kaconsole3 and kapower3. Small scripts that ask the lab over a unix socket."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import socketserver
import threading
from collections.abc import Mapping
from pathlib import Path

from g5kdeploy.base import files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.site import names
from g5kdeploy.lab.site.nodes import Node

log = logging.getLogger(__name__)

# One script under several names; it needs nothing but a Python on the frontend.
_SCRIPT = '''\
#!/usr/bin/env python3
"""{name}: {purpose}"""
import argparse, json, os, select, socket, sys

def ask(**request):
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "commands.sock"))
        channel.sendall(json.dumps(request).encode() + b"\\n")
        wait, rest = select.poll(), b""
        wait.register(channel, select.POLLIN)
        wait.register(1, 0)  # whoever reads us may leave while nothing comes
        while True:
            ready = [which for which, _ in wait.poll()]
            data = channel.recv(1 << 20) if 1 not in ready else b""
            *lines, rest = (rest + data).split(b"\\n")
            yield from map(json.loads, lines)
            if not data:
                return

parser = argparse.ArgumentParser(prog="{name}", description="{purpose}")
parser.add_argument("-m", "--machine", action="append", required=True, help="a node; may be given several times")
{options}
options = parser.parse_args()
status = 0
for machine in options.machine:
    try:
        for answer in ask(node=machine, {request}):
            if "error" in answer:
                print("{name}: " + answer["error"], file=sys.stderr)
                status = 1
            elif "text" in answer:
                sys.stdout.write(answer["text"])
                sys.stdout.flush()
            else:
                print(machine + ": " + answer["state"])
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        print("{name}: the site's management does not answer: " + str(error), file=sys.stderr)
        status = 1
sys.exit(status)
'''
_CONSOLE = {
    "name": "kaconsole3",
    "purpose": "show a node's console",
    "options": 'parser.add_argument("-f", "--follow", action="store_true", help="go on until interrupted; usual on a terminal")\n'
    'parser.add_argument("--from", dest="begin", type=int, default=0, metavar="BYTE", help="begin at this byte of it")',
    "request": 'do="console", follow=options.follow or os.isatty(0) and os.isatty(1), begin=options.begin',
}
_POWER = {
    "name": "kapower3",
    "purpose": "switch a node on or off",
    "options": "which = parser.add_mutually_exclusive_group(required=True)\n"
    'for word in ("on", "off", "reset", "status"):\n'
    '    which.add_argument("--" + word, dest="do", action="store_const", const=word)',
    "request": "do=options.do",
}
POLL_SECONDS = 0.3


class Commands:
    """Answers the frontend's commands; one JSON line a request, JSON lines back."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._server: socketserver.ThreadingUnixStreamServer | None = None
        self._ended = threading.Event()

    def start(self, folder: Path) -> None:
        """Listen on `folder`/commands.sock, and write the scripts into `folder`/bin."""
        for script in (_CONSOLE, _POWER):
            content = _SCRIPT
            for word, value in script.items():
                content = content.replace("{" + word + "}", value)
            files.write(folder / "bin" / script["name"], content, 0o755)
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
            node = self._nodes[names.node(names.number(str(request["node"])))]
            do = request["do"]
        except (ValueError, KeyError, TypeError):
            say(error="there is no such node")
            return
        try:
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
        except Problem as problem:
            say(error=str(problem))

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
