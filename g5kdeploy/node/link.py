"""One connection to one machine, shared by all who talk to it or through it, and opened again when it broke."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.node import wire
from g5kdeploy.node.explain import explain
from g5kdeploy.node.hostkeys import HostKey, HostKeys
from g5kdeploy.node.login import KeyRing
from g5kdeploy.node.problems import Unreachable
from g5kdeploy.node.settings import Hop

if TYPE_CHECKING:
    import fabric
    import paramiko

log = logging.getLogger(__name__)

SESSIONS = 8  # at once on one connection; OpenSSH's MaxSessions is 10
OPENINGS = 16  # connections being opened through one gateway at the same moment
PROXIES = 6  # by commands of the user's: each is a login of its own on a gateway, whose MaxStartups is 10
HASTE = 5.0  # seconds: a connection that had less time to answer is not taken for dead
GREETINGS = 4  # attempts where a server hangs up before its greeting, as one above its MaxStartups does


class Closed(Unreachable):
    """This Reach was closed."""


class Link:
    """The connection to `hop`, through `parent` where there is one."""

    def __init__(
        self, hop: Hop, parent: Link | None, keys: HostKeys, ring: KeyRing, proxies: threading.Semaphore | None = None
    ) -> None:
        """`proxies` are the places for connections by ProxyCommand that are being opened, those of all machines."""
        self.hop = hop
        self.parent = parent
        self.running = 0  # commands
        self._proxies = proxies or threading.BoundedSemaphore(PROXIES)
        self._places = threading.BoundedSemaphore(SESSIONS)
        self.openings = threading.BoundedSemaphore(OPENINGS)
        self._keys = keys
        self._ring = ring
        self._lock = threading.Lock()
        self._current: fabric.Connection | None = None
        self._opening: Future[fabric.Connection] | None = None
        self._closed = False

    @property
    def way(self) -> str:
        """The gateways in words: " through access, frontend", or nothing."""
        names = []
        link = self.parent
        while link is not None:
            names.append(link.hop.name)
            link = link.parent
        return f" through {', '.join(reversed(names))}" if names else ""

    def channel(
        self, deadline: Deadline, ask: Callable[[paramiko.Transport, float], paramiko.Channel]
    ) -> paramiko.Channel:
        """Open a channel with `ask(transport, seconds)`; a connection found dead is opened anew, once.

        Nothing was started on the machine before this returns, so that doing it again is safe. A connection may be
        dead long before paramiko says so: whatever is raised here means that it is, but a refusal by the server,
        which is passed on (`paramiko.ChannelException`).
        """
        for last in (False, True):
            connection = self.connection(deadline)
            began = time.monotonic()
            try:
                return wire.orderly(ask(connection.transport, min(wire.CHANNEL, deadline.remaining())))
            except Exception as error:
                if refused := wire.refusal(error, connection.transport):
                    raise refused from error  # an answer: the connection lives, the server says no
                log.debug("%s: no channel: %r", self.hop.name, error)
                if _is_timeout(error):
                    if deadline.passed() and time.monotonic() - began < HASTE:
                        raise deadline.error(f"{self.hop.name} did not answer") from error
                    if not deadline.passed() and wire.alive(connection.transport, deadline):
                        raise TimeoutError("no answer") from error  # from behind it: the machine itself is there
                self.drop(connection)
                deadline.check(f"{self.hop.name} stopped answering")
                if last:
                    raise explain(self.hop, self.way, error) from error
        raise AssertionError("unreachable")

    def connection(self, deadline: Deadline) -> fabric.Connection:
        """The live connection; opened by the first who needs it, the others wait for that and share what came of it."""
        while True:
            with self._lock:
                if self._closed:
                    raise Closed(f"the connections of this command are closed, {self.hop.name} was asked for too late")
                if self._current is not None and self._current.transport.is_active():
                    return self._current
                opening = self._opening
                if opening is None:
                    mine: Future[fabric.Connection] = Future()
                    self._opening = mine
            if opening is None:
                return self._open_for_all(mine, deadline)
            try:
                return opening.result(deadline.remaining())
            except DeadlinePassed:  # the other one's, perhaps not ours
                deadline.check(f"{self.hop.name} did not answer")
            except TimeoutError as error:
                raise deadline.error(f"{self.hop.name} did not answer") from error
            except Problem as problem:
                raise copy.copy(problem) from problem

    @contextlib.contextmanager
    def place(self, deadline: Deadline) -> Iterator[None]:
        """One of the places for commands on this connection, for as long as the block runs."""
        with holding(self._places, deadline, f"{self.hop.name} has many commands running"):
            with self._lock:
                self.running += 1
            try:
                yield
            finally:
                with self._lock:
                    self.running -= 1

    def drop(self, connection: fabric.Connection | None = None) -> None:
        """Forget a connection (the current one) and close it in the background: a dead one may block whoever does."""
        with self._lock:
            if connection is None:
                connection = self._current
            if connection is self._current:
                self._current = None
        if connection is not None:
            wire.hang_up(connection)

    def drop_transport(self, transport: paramiko.Transport) -> None:
        """The same, for whoever knows only a channel's transport."""
        with self._lock:
            connection = self._current
        if connection is not None and connection.transport is transport:
            self.drop(connection)

    def close(self) -> None:
        """Close for good."""
        with self._lock:
            self._closed = True
        self.drop()

    def _open_for_all(self, mine: Future[fabric.Connection], deadline: Deadline) -> fabric.Connection:
        try:
            connection = self._open(deadline)
        except BaseException as error:
            with self._lock:
                self._opening = None
            # An interrupt is this thread's own affair: the others try for themselves.
            mine.set_exception(error if isinstance(error, Problem) else deadline.error("it was interrupted"))
            raise
        with self._lock:
            self._opening = None
            closed = self._closed
            self._current = None if closed else connection
        mine.set_result(connection)
        if closed:
            wire.hang_up(connection)
        return connection

    def _open(self, deadline: Deadline) -> fabric.Connection:
        """Connect, again a few times where the server hung up before it greeted."""
        from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        retrying = Retrying(
            retry=retry_if_exception_type(_HungUp),
            stop=stop_after_attempt(GREETINGS),
            wait=wait_random_exponential(0.5, max=4),
            sleep=lambda seconds: deadline.sleep(seconds, f"{self.hop.name} hangs up before its greeting"),
        )
        place = (
            holding(self._proxies, deadline, "many connections are being opened by a ProxyCommand")
            if self.hop.proxy_command
            else contextlib.nullcontext()
        )
        try:
            with place:
                return retrying(self._open_once, deadline)
        except RetryError as error:
            cause = error.last_attempt.exception()
            raise explain(self.hop, self.way, cause) from cause

    def _open_once(self, deadline: Deadline) -> fabric.Connection:
        import paramiko

        deadline.check(f"{self.hop.name} was not reached")
        sock: Any = None
        connection = None
        try:
            sock = self._wire(deadline)
            connection = wire.fabric_connection(self.hop, sock, self._identity(), deadline)
            self._trust(connection)
            connection.open()
            connection.transport.set_keepalive(wire.KEEPALIVE)
        except BaseException as error:
            if connection is not None:
                wire.hang_up(connection, sock)
            elif sock is not None:
                sock.close()
            if isinstance(error, Problem) or not isinstance(error, Exception):
                raise
            if isinstance(error, paramiko.BadHostKeyException):
                shown = HostKey(error.key.get_name(), error.key.get_base64())
                raise self._keys.changed(self.hop, shown, *self._keys.known(self.hop)) from error
            deadline.check(str(explain(self.hop, self.way, error)))
            if isinstance(error, EOFError | ConnectionResetError) or "banner" in str(error).lower():
                raise _HungUp(str(error) or type(error).__name__) from error
            raise explain(self.hop, self.way, error) from error
        log.debug("connected to %s as %s%s", self.hop.name, self.hop.user, self.way)
        return connection

    def _wire(self, deadline: Deadline) -> Any:
        """Something like a socket that ends at the machine's SSH port."""
        hop = self.hop
        if self.parent is not None:
            return self.parent.tunnel(hop.host, hop.port, deadline)
        return wire.proxy_command(hop.proxy_command) if hop.proxy_command else wire.direct(hop.host, hop.port, deadline)

    def tunnel(self, host: str, port: int, deadline: Deadline) -> paramiko.Channel:
        """A connection from this machine onward to `host`:`port`; few are opened at once. Raises `Unreachable`."""
        import paramiko

        def ask(transport: paramiko.Transport, seconds: float) -> paramiko.Channel:
            return transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=seconds)

        with holding(self.openings, deadline, f"{self.hop.name} has many connections to open"):
            try:
                return wire.closing_quietly(self.channel(deadline, ask))
            except paramiko.ChannelException as error:
                raise Unreachable(
                    f"{host} port {port} cannot be reached through {self.hop.name}",
                    cause=f"{self.hop.name} says: {error.text or 'no'}",
                    hint=f"{self.hop.name} forbids forwarding"
                    if error.code == 1
                    else "is the machine up, with SSH running?",
                ) from error
            except TimeoutError as error:
                raise Unreachable(
                    f"{host} port {port} cannot be reached through {self.hop.name}",
                    cause="no answer",
                    hint="is the machine up?",
                ) from error

    def _identity(self) -> Any:
        return self._ring.identity(self.hop)

    def _trust(self, connection: fabric.Connection) -> None:
        """Give paramiko the keys that this machine may show, and our policy for a first sight."""
        import paramiko

        keys, hop = self._keys, self.hop

        class FirstSight(paramiko.MissingHostKeyPolicy):
            def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
                keys.check(hop, HostKey(key.get_name(), key.get_base64()))

        connection.client.set_missing_host_key_policy(FirstSight())
        for known in keys.known(hop)[0]:
            body = paramiko.PKey.from_type_string(known.kind, _decode(known.body))
            connection.client.get_host_keys().add(hop.known_as, known.kind, body)


class _HungUp(Exception):
    """The server closed the connection before it was a connection."""


@contextlib.contextmanager
def holding(semaphore: threading.Semaphore, deadline: Deadline, why: str) -> Iterator[None]:
    """Take one of a bounded number of places, waiting no longer than the deadline."""
    if not semaphore.acquire(timeout=deadline.remaining()):
        raise deadline.error(why)
    try:
        yield
    finally:
        semaphore.release()


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or "timeout" in str(error).lower()


def _decode(body: str) -> bytes:
    import base64

    return base64.b64decode(body)
