"""How one connection is made, asked whether it lives, and closed: sockets, fabric and paramiko, nothing shared."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import select
import shlex
import socket
import threading
from typing import TYPE_CHECKING, Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node.settings import Hop

if TYPE_CHECKING:
    import fabric
    import paramiko

log = logging.getLogger(__name__)

# Seconds. A node under emulation or under load answers late; only the network itself is expected to be quick.
CONNECT = 15.0
HANDSHAKE = 60.0
CHANNEL = 30.0
KEEPALIVE = 15
DEAD_AFTER = 45_000  # milliseconds that sent data may stay unacknowledged
_CLOSE = bytes([97])  # SSH_MSG_CHANNEL_CLOSE


def direct(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A TCP connection that the kernel gives up on when nothing is acknowledged for long. Raises OSError."""
    wire = socket.create_connection((host, port), min(CONNECT, deadline.remaining()) or 0.001)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER)
    return wire


def proxy_command(command: str) -> Any:
    """A ProxyCommand, run by the shell as OpenSSH does it; its process is collected when it is closed."""
    import paramiko

    class Command(paramiko.ProxyCommand):
        def recv(self, size: int) -> bytes:
            """What has come. paramiko's own waits for all of `size`, and on and on for a command that has ended."""
            assert self.process.stdout is not None
            waiting = select.poll()
            waiting.register(self.process.stdout, select.POLLIN)
            if not waiting.poll(None if self.timeout is None else self.timeout * 1000):
                raise TimeoutError
            return os.read(self.process.stdout.fileno(), size)

        def close(self) -> None:
            with contextlib.suppress(ProcessLookupError):
                super().close()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()

    return Command(shlex.join(["/bin/sh", "-c", f"exec {command}"]))


@functools.cache
def _transport_class() -> type[paramiko.Transport]:
    import paramiko

    class Transport(paramiko.Transport):
        """A transport whose thread always ends what it began.

        paramiko's dies halfway when a channel is being opened at the very moment at which the connection ends. It
        would say "active" ever after, and whoever waits for a channel would wait in vain.
        """

        # The kinds that need no separate check sum come first: paramiko compares those byte by byte, in Python.
        _preferred_ciphers = tuple(
            sorted(paramiko.Transport._preferred_ciphers, key=lambda kind: "-gcm" not in kind)  # type: ignore[attr-defined]
        )

        # Seconds after which a thread that waits for its socket looks around. paramiko's tenth of one costs a fifth of
        # a CPU with 500 connections on which nothing happens.
        _active_check_timeout = 1.0

        def run(self) -> None:
            try:
                super().run()
            except Exception as error:  # noqa: BLE001  whatever it was, the connection is over
                log.debug("a connection's thread ended: %r", error)
                self.saved_exception = self.saved_exception or error
                self.active = False
                self.packetizer.close()
                for channel in list(self._channels.values()):  # type: ignore[attr-defined]
                    with contextlib.suppress(Exception):
                        channel._unlink()
                events = [self.completion_event, *self.channel_events.values()]
                for event in filter(None, events):
                    event.set()
                if self.auth_handler is not None:
                    self.auth_handler.abort()
                self.sock.close()

    return Transport


class Orderly:
    """What a channel sees as its transport: nothing is sent for the channel after its CLOSE.

    paramiko decides under a lock whether a channel is open, and sends without it. Data that so comes after the CLOSE
    makes OpenSSH end the whole connection ("data packet referred to nonexistent channel"): behind a gateway, the
    commands on all nodes, because one node went away.
    """

    def __init__(self, transport: paramiko.Transport) -> None:
        self.real = transport
        self._lock = threading.Lock()
        self._over = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def _send_user_message(self, message: paramiko.Message) -> None:
        with self._lock:
            if not self._over:
                self._over = message.asbytes()[:1] == _CLOSE
                self.real._send_user_message(message)  # type: ignore[attr-defined]


def orderly(channel: paramiko.Channel) -> paramiko.Channel:
    """Make a new channel end in good order, whoever closes it while others still send."""
    transport: Any = channel.transport
    view: Any = Orderly(transport)
    channel.transport = view
    return channel


def transport_of(channel: paramiko.Channel) -> paramiko.Transport:
    """The real transport of an orderly channel."""
    transport: Any = channel.get_transport()
    return transport.real  # type: ignore[no-any-return]


def closing_quietly(channel: paramiko.Channel) -> paramiko.Channel:
    """A channel that carries another connection: that one's thread closes it, and must not die of a gateway's death."""
    close = channel.close

    def quietly() -> None:
        with contextlib.suppress(Exception):
            close()

    channel.close = quietly  # type: ignore[method-assign]
    return channel


@functools.cache
def _connection_class() -> tuple[type[fabric.Connection], fabric.Config]:
    import fabric
    import paramiko

    class Connection(fabric.Connection):  # type: ignore[misc]
        """A connection that keeps its values itself, not in its configuration, so that all can share one.

        To make a configuration, and to look for each value there, took longer than the key exchange.
        """

        def __setattr__(self, name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

    return Connection, fabric.Config(ssh_config=paramiko.SSHConfig(), lazy=True)


def fabric_connection(hop: Hop, sock: Any, identity: Any, deadline: Deadline) -> fabric.Connection:
    """A fabric Connection over `sock`. It reads no file of its own: the settings were read from the right home."""

    # Their traces of a connection that broke would go to stderr; what broke is told by the Problem.
    for name in ("paramiko", "invoke", "fabric"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def transport(sock: Any, **options: Any) -> paramiko.Transport:
        made = _transport_class()(sock, **options)
        made.handshake_timeout = made.banner_timeout = patience
        return made

    patience = min(HANDSHAKE, deadline.remaining())
    made, config = _connection_class()
    return made(
        hop.host,
        user=hop.user,
        port=hop.port,
        config=config,
        connect_kwargs={
            "sock": sock,
            "timeout": patience,
            "auth_timeout": patience,
            "channel_timeout": CHANNEL,
            "auth_strategy": identity,
            "transport_factory": transport,
        },
    )


def refusal(error: BaseException, transport: paramiko.Transport) -> paramiko.ChannelException | None:
    """The server's "no" to a channel that an error means; None when it means anything else.

    paramiko keeps one error for all threads and gives it to whoever comes first: the others are told less.
    """
    import paramiko

    if isinstance(error, paramiko.ChannelException):
        return error
    if str(error) == "Unable to open channel." and transport.is_active():
        return paramiko.ChannelException(4, "Resource shortage")
    return None


def alive(transport: paramiko.Transport, deadline: Deadline) -> bool:
    """Ask for an answer, not for an opinion: whether the other side still speaks."""
    try:
        transport.open_session(timeout=min(CHANNEL, deadline.remaining())).close()
    except Exception as error:  # noqa: BLE001  the transport's thread hands on whatever ended it
        return refusal(error, transport) is not None  # who refuses lives
    return True


def hang_up(connection: fabric.Connection, sock: Any = None) -> None:
    """Close a connection in a thread of its own: on a dead one, closing may wait for a lock that is never freed."""

    def close() -> None:
        for what in (connection, connection.client, sock):
            with contextlib.suppress(Exception):
                if what is not None:
                    what.close()

    threading.Thread(target=close, name="hang-up", daemon=True).start()
