"""QEMU's machine protocol: one command over a unix socket, with a deadline."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from g5kdeploy.base import files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem


class QmpFailed(Problem):
    """QEMU refused a command, or closed the connection."""


@contextlib.contextmanager
def connect(path: Path, deadline: Deadline) -> Iterator[socket.socket]:
    """A connection to a unix socket, however long its path is."""
    with files.short(path.parent) as near, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(max(0.1, deadline.remaining()))
        channel.connect(str(near / path.name))
        yield channel


def execute(path: Path, deadline: Deadline, command: str, arguments: dict[str, Any]) -> Any:
    """Run one QMP command and return what it returned."""
    request: dict[str, Any] = {"execute": command}
    if arguments:
        request["arguments"] = arguments
    try:
        with connect(path, deadline) as channel, channel.makefile("rw", encoding="utf-8") as stream:
            _answer(stream)  # the greeting
            for message in ({"execute": "qmp_capabilities"}, request):
                stream.write(json.dumps(message) + "\n")
                stream.flush()
                answer = _answer(stream)
    except TimeoutError as error:
        raise deadline.error(f"QEMU did not answer {command}") from error
    except (OSError, ValueError) as error:
        raise QmpFailed(f"QEMU did not do {command}", cause=str(error)) from error
    return answer


def _answer(stream: Any) -> Any:
    """The next line that is no event."""
    for line in stream:
        message = json.loads(line)
        if "error" in message:
            raise QmpFailed("QEMU refused a command", cause=str(message["error"].get("desc", message["error"])))
        if "event" not in message:
            return message.get("return")
    raise OSError("the connection was closed")
