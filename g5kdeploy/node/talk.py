"""One command on an open channel: feed it, read it, wait for its end, and notice when the machine is gone."""

from __future__ import annotations

import codecs
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import clean

if TYPE_CHECKING:
    import paramiko

BLOCK = 1 << 17  # bytes read at once
FEED = 1 << 15  # bytes written at once: one SSH packet
IDLE = 20.0  # seconds without a word after which the machine is asked whether it lives
TRIES = 2  # unanswered questions after which it does not

Sink = Callable[[bytes], None]


class Feed(Protocol):
    """What a command's stdin is read from: blocks of bytes, empty at the end."""

    def read(self, size: int, /) -> bytes:
        """The next block, of about `size` bytes."""
        ...


class Broken(Exception):
    """The connection ended before the command's status came."""


@dataclass
class Streams:
    """Where stdout and stderr of a command go, block by block."""

    stdout: Sink
    stderr: Sink


class Lines:
    """Cuts blocks into lines and hands them on, cleaned for a terminal."""

    def __init__(self, out: Callable[[str], None]) -> None:
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, block: bytes) -> None:
        *whole, self._rest = (self._rest + self._decoder.decode(block)).replace("\r\n", "\n").split("\n")
        for line in whole:
            self._out(clean(line))

    def end(self) -> None:
        rest = self._rest + self._decoder.decode(b"", True)
        self._rest = ""
        if rest:
            self._out(clean(rest))


class _Wake(threading.Event):
    """Set by paramiko when a buffer has something; cleared by the reader alone, so that no word is missed."""

    def clear(self) -> None:
        """paramiko clears it when one of two buffers is empty: that says nothing of the other."""

    def wait_and_clear(self, seconds: float) -> bool:
        woken = self.wait(seconds)
        super().clear()
        return woken


def talk(
    channel: paramiko.Channel,
    command: str,
    feed: Feed | None,
    streams: Streams,
    deadline: Deadline,
    alive: Callable[[], bool],
    abandon: Callable[[], None],
) -> int:
    """Run `command` on a fresh channel; its exit status, -1 when a signal killed it.

    Raises `Broken` when the connection went away, `DeadlinePassed` at the deadline; the channel is closed then by
    `abandon`, which may be called from another thread and must not block.
    """
    guard = threading.Timer(deadline.remaining(), abandon)  # ends whatever paramiko waits for without a limit
    guard.daemon = True
    guard.start()
    try:
        try:
            channel.exec_command(command)
        except Exception as error:
            deadline.check("the command was not begun")
            raise Broken(str(error) or type(error).__name__) from error
        feeder = threading.Thread(target=_feed, args=(channel, feed), name="feed", daemon=True)
        feeder.start() if feed is not None else _end_input(channel)
        _listen(channel, streams, deadline, alive)
        if channel.exit_status >= 0 and channel.eof_received:
            return channel.exit_status
        # The status may come before the last output: without the end of that, it may have been cut.
        deadline.check("the command did not end")
        if not alive():
            raise Broken("the connection ended")
        return channel.exit_status  # closed in good order; -1, without a status: a signal
    finally:
        guard.cancel()


def _listen(channel: paramiko.Channel, streams: Streams, deadline: Deadline, alive: Callable[[], bool]) -> None:
    """Read both streams to their end, then wait for the exit status or the close."""
    wake = _Wake()
    for buffer in (channel.in_buffer, channel.in_stderr_buffer):
        buffer.set_event(wake)
    silent = 0
    while True:
        ended = channel.eof_received or channel.closed  # looked at first: nothing is added after it
        moved = _drain(channel, streams)
        if ended and not moved:
            if channel.exit_status_ready():
                return
            woken = channel.status_event.wait(min(IDLE, deadline.remaining()))
        else:
            woken = moved or wake.wait_and_clear(min(IDLE, deadline.remaining()))
        deadline.check("the command did not end")
        if woken or alive():
            silent = 0
        else:
            silent += 1
            if silent >= TRIES or channel.closed:
                raise Broken("the machine stopped answering")


def _drain(channel: paramiko.Channel, streams: Streams) -> bool:
    moved = False
    while channel.recv_ready():
        streams.stdout(_receive(channel.recv))
        moved = True
    while channel.recv_stderr_ready():
        streams.stderr(_receive(channel.recv_stderr))
        moved = True
    return moved


def _receive(receive: Callable[[int], bytes]) -> bytes:
    """What has come; receiving also sends (that there is room again), and fails where that cannot be."""
    try:
        return receive(BLOCK)
    except Exception as error:
        raise Broken(str(error) or type(error).__name__) from error


def _feed(channel: paramiko.Channel, feed: Feed) -> None:
    """Write a stream to the command's stdin; a command may end without reading all of it."""
    with contextlib.suppress(Exception):  # whatever ended the connection is seen by the reader
        while block := feed.read(FEED):
            channel.sendall(block)
    _end_input(channel)


def _end_input(channel: paramiko.Channel) -> None:
    with contextlib.suppress(Exception):
        channel.shutdown_write()
