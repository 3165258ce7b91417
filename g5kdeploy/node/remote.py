"""One machine that answers SSH: run a command, bring files there and back, wait for it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shlex
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.base.text import human_bytes, redact
from g5kdeploy.node.link import Closed, Link
from g5kdeploy.node.problems import (
    ConnectionLost,
    LoginRefused,
    RemoteFailed,
    Result,
    Unreachable,
    broke,
    overflow,
    shorten,
)
from g5kdeploy.node.shell import AfterMark, by_sh
from g5kdeploy.node.talk import Broken, Feed, Lines, Streams, talk
from g5kdeploy.node.wire import alive, transport_of

if TYPE_CHECKING:
    import paramiko

log = logging.getLogger(__name__)

PATIENCE = 10  # refused logins in a row after which a machine that boots will not take our key any more
REFUSALS = 10  # in a row, before a connection on which sessions are stuck is replaced
TOO_MUCH = 3  # a status no tool of ours ends with otherwise, for a file above its limit

T = TypeVar("T")
Input = str | bytes | Path | Feed | None


class Remote:
    """A machine by its name, reached as `user`. Made by `Reach.remote`; connects when first used.

    Every method raises `Unreachable`, `LoginRefused`, `HostKeyChanged`, `ConnectionLost` or `DeadlinePassed`.
    """

    def __init__(self, name: str, user: str, link: Link) -> None:
        self.name = name
        self.user = user
        self._link = link

    def __repr__(self) -> str:
        return f"Remote({self.user}@{self.name})"

    def run(
        self,
        command: str,
        deadline: Deadline,
        *,
        input: Input = None,
        check: bool = True,
        out: Callable[[str], None] | None = None,
        secrets: Iterable[str] = (),
        hint: str = "",
        login_shell: bool = False,
        limit: int | None = None,
    ) -> Result:
        """Run a command of /bin/sh (or of the user's `login_shell`) to its end.

        `input` is fed to its stdin (a Path: that file's content; a Feed: once). `out` is given each line of stdout and
        stderr as it comes, cleaned. `secrets` are blotted out of texts, logs and errors, not of `data`. Raises
        `RemoteFailed` with `check`. A connection that turns out to be dead before the command started is opened anew,
        once. Above `limit` bytes of output the command is cut off and `Overflow` raised.
        """
        secrets = tuple(secrets)
        stdout, stderr = io.BytesIO(), io.BytesIO()

        def kept(stream: io.BytesIO) -> Callable[[bytes], None]:
            def keep(block: bytes) -> None:
                stream.write(block)
                if limit is not None and stdout.tell() + stderr.tell() > limit:
                    raise overflow(self.name, redact(shorten(command), secrets), limit)

            return keep

        status, seconds = self._talk(
            command, deadline, input, kept(stdout), kept(stderr), out, secrets, login_shell=login_shell
        )
        data = stdout.getvalue()
        texts = [redact(raw.decode(errors="replace"), secrets) for raw in (data, stderr.getvalue())]
        result = Result(texts[0], texts[1], status, seconds, data)
        if check and status != 0:
            raise RemoteFailed(self.name, redact(command, secrets), result, hint)
        return result

    def pipe(
        self,
        command: str,
        deadline: Deadline,
        *,
        stdout: Callable[[bytes], object],
        stderr: Callable[[bytes], object] = lambda block: None,
    ) -> int:
        """Run a command and hand on its output, block by block as it comes, keeping none; its exit status."""
        return self._talk(command, deadline, None, stdout, stderr, None, ())[0]

    def put(self, source: bytes | Path, path: str, deadline: Deadline, mode: int = 0o644) -> None:
        """Write a file there, aside and renamed; folders on the way are made."""
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        folder, final = shlex.quote(str(PurePosixPath(path).parent)), shlex.quote(path)
        aside = shlex.quote(f"{path}.{os.getpid()}-{threading.get_ident()}.part")
        # The size is compared because a connection that breaks looks to `cat` like the end of the file.
        command = (
            f"set -e; umask 077; mkdir -p -m 755 -- {folder}; cat > {aside}; "
            f"if [ $(wc -c < {aside}) -ne {size} ]; then rm -f {aside}; echo 'not all of it arrived' >&2; exit 1; fi; "
            f"chmod {mode:o} {aside}; mv -f {aside} {final}"
        )
        self.again(lambda: self.run(command, deadline, input=source, hint=f"while writing {path}"))

    def get(self, path: str, to: Path, deadline: Deadline, limit: int | None = None) -> int:
        """Bring a file here, aside and renamed; its size in bytes. More than `limit`: `RemoteFailed`."""
        quoted = shlex.quote(path)
        command = f"cat -- {quoted}"
        if limit is not None:
            too_much = shlex.quote(f"{path} is larger than {human_bytes(limit)}")
            command = f"[ $(wc -c < {quoted}) -le {limit} ] || {{ echo {too_much} >&2; exit {TOO_MUCH}; }}; {command}"
        to.parent.mkdir(parents=True, exist_ok=True)
        return self.again(lambda: self.stream(command, to, deadline))

    def stream(self, command: str, to: Path, deadline: Deadline, limit: int | None = None) -> int:
        """Run a command and write its stdout into a file, aside and renamed when the command ended well; bytes.

        Above `limit` bytes the command is cut off and `Overflow` raised.
        """
        fd, name = tempfile.mkstemp(prefix=f".{to.name}.", dir=to.parent)
        aside = Path(name)
        try:
            with os.fdopen(fd, "wb") as file:
                stderr = io.BytesIO()

                def keep(block: bytes) -> None:
                    file.write(block)
                    if limit is not None and file.tell() > limit:
                        raise overflow(self.name, shorten(command), limit, "ask for less, or raise the limit")

                status, seconds = self._talk(command, deadline, None, keep, stderr.write, None, ())
                size = file.tell()
                file.flush()
                os.fsync(fd)
            if status != 0:
                result = Result("", stderr.getvalue().decode(errors="replace"), status, seconds)
                raise RemoteFailed(self.name, command, result)
            aside.chmod(0o644)
            aside.replace(to)
        finally:
            aside.unlink(missing_ok=True)
        return size

    def wait_ready(self, deadline: Deadline) -> None:
        """Return when SSH answers and a command runs.

        `HostKeyChanged` ends the wait at once; refused logins only when they go on: keys may be put there late.
        """
        refused = 0
        while True:
            attempt = deadline.within(90, f"an answer of {self.name}")
            try:
                self.run("true", attempt)
                return
            except (Closed, RemoteFailed):
                raise
            except LoginRefused as problem:
                refused += 1
                seen: Problem = problem
                if refused >= PATIENCE:
                    raise
            except (Unreachable, ConnectionLost, DeadlinePassed) as problem:
                refused = 0
                seen = problem
            log.debug("%s is not ready: %s", self.name, seen)
            try:
                deadline.sleep(1.0, str(seen))
                deadline.check(str(seen))
            except DeadlinePassed as passed:
                passed.hint = seen.hint
                raise passed from seen

    def boot_id(self, deadline: Deadline) -> str:
        """The kernel's boot id: changes with every boot, kexec included."""
        return self.again(lambda: self.run("cat /proc/sys/kernel/random/boot_id", deadline)).stdout.strip()

    @contextlib.contextmanager
    def forward(
        self, port: int, host: str = "127.0.0.1", local: int = 0, told: Callable[[Problem], None] | None = None
    ) -> Iterator[int]:
        """A local TCP port that leads to `host`:`port` as seen from the machine, while the block runs.

        It is `local`, or any free one; `told` hears of connections that could not be made.
        """
        from g5kdeploy.node.forward import Forward

        with Forward(self._link, host, port, local, told) as forward:
            yield forward.port

    def disconnect(self) -> None:
        """Drop this machine's connection, for instance because it is about to reboot; the next use connects anew."""
        self._link.drop()

    def again(self, work: Callable[[], T]) -> T:
        """Do what can be done twice once more when the connection broke in the middle."""
        try:
            return work()
        except ConnectionLost:
            return work()

    def _talk(
        self,
        command: str,
        deadline: Deadline,
        input: Input,
        stdout: Callable[[bytes], object],
        stderr: Callable[[bytes], object],
        out: Callable[[str], None] | None,
        secrets: tuple[str, ...],
        *,
        login_shell: bool = False,
    ) -> tuple[int, float]:
        shown = redact(shorten(command), secrets)
        log.debug("%s: %s", self.name, shown)
        lines = [Lines(lambda line: out(redact(line, secrets))) for _ in range(2)] if out else []

        def sink(keep: Callable[[bytes], object], of: int) -> Callable[[bytes], None]:
            def take(block: bytes) -> None:
                keep(block)
                if lines:
                    lines[of].feed(block)

            return take

        printed = sink(stdout, 0)
        after = None if login_shell else AfterMark(printed)
        with self._link.place(deadline), _opened(input) as feed:
            channel = self._session(deadline)
            began = time.monotonic()
            transport = transport_of(channel)
            clean_end = False
            try:
                status = talk(
                    channel,
                    command if login_shell else by_sh(command),
                    feed,
                    Streams(after.feed if after else printed, sink(stderr, 1)),
                    deadline,
                    lambda: alive(transport, deadline),
                    lambda: self._abandon(channel),
                )
                if after:
                    after.end()
                clean_end = True
            except Broken as error:
                self._link.drop_transport(transport)
                raise broke(self.name, shown, str(error)) from error
            finally:
                for line in lines:
                    line.end()
                if not clean_end:
                    self._abandon(channel)
        return status, time.monotonic() - began

    def _session(self, deadline: Deadline) -> paramiko.Channel:
        """A channel for one command.

        A refusal is the server's MaxSessions: places of commands that ended a moment ago, which are free soon, or of
        ones that were given up and still run there. From those a new connection helps, if nobody else uses this one.
        """
        import paramiko

        def ask(transport: paramiko.Transport, seconds: float) -> paramiko.Channel:
            return transport.open_session(timeout=seconds)

        refusals, renewed = 0, False
        while True:
            try:
                return self._link.channel(deadline, ask)
            except TimeoutError as error:
                raise Unreachable(f"{self.name} does not answer", cause="a session was not opened in time") from error
            except paramiko.ChannelException as error:
                refusals += 1
                if refusals > REFUSALS and self._link.running == 1:
                    if renewed:
                        raise Unreachable(f"{self.name} lets {self.user} run no command", cause=error.text) from error
                    self._link.drop()
                    refusals, renewed = 0, True
                deadline.sleep(0.1, f"{self.name} opens no more sessions ({error.text})")

    def _abandon(self, channel: paramiko.Channel) -> None:
        """Close a channel without waiting for it; when it cannot be closed, its whole connection goes."""

        def close() -> None:
            done = threading.Event()

            def politely() -> None:
                with contextlib.suppress(Exception):
                    channel.close()
                done.set()

            threading.Thread(target=politely, name="close-channel", daemon=True).start()
            if not done.wait(2.0):
                self._link.drop_transport(transport_of(channel))

        threading.Thread(target=close, name="abandon", daemon=True).start()


@contextlib.contextmanager
def _opened(input: Input) -> Iterator[Feed | None]:
    """The input of a command as a stream of bytes."""
    if isinstance(input, Path):
        with input.open("rb") as file:
            yield file
    elif input is None:
        yield None
    elif isinstance(input, str | bytes):
        yield io.BytesIO(input.encode() if isinstance(input, str) else input)
    else:
        yield input
