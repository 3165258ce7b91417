"""Telling systemd how far we are (sd_notify): one datagram, no library."""

from __future__ import annotations

import os
import socket


def notify(*assignments: str) -> bool:
    """Send such as READY=1 or STATUS=...; False if nobody listens or the message does not get there."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.connect(address)
            out.sendall("\n".join(assignments).encode())
    except OSError:
        return False
    return True
