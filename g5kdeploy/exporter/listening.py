"""The socket that Prometheus connects to. It is there before anything is loaded: an address that is taken is told at once."""

from __future__ import annotations

import os
import socket

_FIRST_FD = 3  # where systemd's sockets begin


class ListenError(Exception):
    """The address cannot be listened on, as a sentence."""


class BadAddress(ListenError):
    """What was given as an address is none."""


def listen(address: str) -> socket.socket:
    """A listening socket: `HOST:PORT`, `:PORT` (every address, both families), `fd://N` (the Nth from systemd)."""
    if address.startswith("fd://"):
        return _inherited(address.removeprefix("fd://"))
    host, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise BadAddress(f"{address!r} is no address to listen on: HOST:PORT, :PORT or fd://N")
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
