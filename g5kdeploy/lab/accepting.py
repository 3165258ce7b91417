"""Connections as they come, whatever becomes of one of them."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Iterator

log = logging.getLogger(__name__)

REST = 0.1
"""Seconds until a connection is accepted again that could not be."""

_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}


def connections(listener: socket.socket) -> Iterator[socket.socket]:
    """Each connection, closed when the next one is asked for, until the listener is shut; a want of descriptors passes."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno not in _PASSING:
                return
            log.warning("a connection cannot be accepted: %s", error.strerror)
            time.sleep(REST)
            continue
        with connection:
            yield connection
