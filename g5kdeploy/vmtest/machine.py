"""A machine as the test script sees it: the NixOS test driver's calls, done over SSH."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path, PurePosixPath

from g5kdeploy.base import process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import clean, human_seconds, tail
from g5kdeploy.node import ConnectionLost, Remote, Unreachable
from g5kdeploy.node.problems import shorten
from g5kdeploy.vmtest.errors import RequestedAssertionFailed, Unsupported, in_seconds
from g5kdeploy.vmtest.units import Units
from g5kdeploy.vmtest.wire import Wire

Timeout = float | timedelta
PATIENCE = 900  # seconds, the NixOS test driver's own default
FOREVER = 365 * 86400.0
RETURNED_NOT_ASKED = -1
OUTPUT_NOT_ASKED = -2

_NO_SCREEN = "it has no screen and no keyboard"
UNSUPPORTED = {
    **dict.fromkeys(
        (
            "screenshot", "get_screen_text", "get_screen_text_variants", "wait_for_text", "send_key", "send_chars",
            "wait_for_x", "get_window_names", "wait_for_window", "get_tty_text", "dump_tty_contents", "wait_until_tty_matches",
        ),
        _NO_SCREEN,
    ),
    **dict.fromkeys(("shell_interact", "console_interact", "send_console"), "nobody sits before it"),
    "switch_root": "its stage 1 is over when SSH answers",
    "wait_for_qmp_event": "QEMU's events are not kept",
}  # fmt: skip


class Machine(Units, ABC):
    """One machine; `name` is what its variable in the script stands for. What it stands on is the subclass's affair."""

    def __init__(self, name: str, wire: Wire, deadline: Deadline, out_dir: Path) -> None:
        self.name = name
        self.out_dir = out_dir
        self._wire = wire
        self._deadline = deadline

    def __repr__(self) -> str:
        return f"Machine({self.name})"

    def __getattr__(self, call: str) -> Callable[..., object]:
        """Calls of the NixOS test driver that make no sense here say so when they are made."""
        if call not in UNSUPPORTED:
            raise AttributeError(f"a machine has no `{call}`")

        def refuse(*_: object, **__: object) -> object:
            raise Unsupported(self.name, call, UNSUPPORTED[call])

        return refuse

    # What a kind of machine must bring

    @abstractmethod
    def remote(self) -> Remote:
        """The machine over SSH, once it answers."""

    @abstractmethod
    def start(self, allow_reboot: bool = True) -> None:
        """Switch it on; returns before it has booted. Nothing happens when it is on."""

    @abstractmethod
    def shutdown(self) -> None:
        """Shut it down, and wait until it is off."""

    @abstractmethod
    def reboot(self) -> None:
        """Reboot it; calls wait until it is up again."""

    @abstractmethod
    def crash(self) -> None:
        """Cut its power."""

    @abstractmethod
    def block(self) -> None:
        """Pull its cable: no other machine reaches it, the script still does."""

    @abstractmethod
    def unblock(self) -> None:
        """Plug the cable in again."""

    @abstractmethod
    def wait_for_shutdown(self) -> None:
        """Wait until it is off."""

    @abstractmethod
    def get_console_log(self) -> str:
        """What its console said since it was switched on, cleaned."""

    # Commands

    def connect(self) -> None:
        """Wait until SSH answers; every call that needs it does so by itself."""
        self.remote()

    def execute(
        self, command: str, check_return: bool = True, check_output: bool = True, timeout: Timeout | None = PATIENCE
    ) -> tuple[int, str]:
        """Run a shell command under `set -euo pipefail`; its status (124: `timeout` seconds were over) and stdout.

        Without `check_return` the machine may vanish meanwhile, and the status is -1. Without `check_output` the
        command is left to run in the background: (-2, "").
        """
        status, stdout, _ = self._execute(command, timeout, check_return, check_output)
        return status, stdout

    def _execute(
        self, command: str, timeout: Timeout | None, check_return: bool = True, check_output: bool = True
    ) -> tuple[int, str, str]:
        limit = None if timeout is None else in_seconds(timeout)
        words = f"bash -c {shlex.quote(f'set -euo pipefail; {command}')}"
        if not check_output:
            words = f"setsid {words} </dev/null >/dev/null 2>&1 &"
        elif limit is not None:
            words = f"timeout {max(1, round(limit))} {words}"
        remote = self.remote()
        patience = self._deadline.within(
            FOREVER if limit is None else limit + 60, f"`{shorten(command)}` on {self.name}"
        )
        try:
            result = remote.run(words, patience, check=False)
        except (ConnectionLost, Unreachable):
            if check_return:
                raise
            return RETURNED_NOT_ASKED, "", ""
        if result.stderr.strip():
            self._wire.send("output", machine=self.name, text=clean(result.stderr))
        if not check_output:
            return OUTPUT_NOT_ASKED, "", ""
        return result.status if check_return else RETURNED_NOT_ASKED, result.stdout, result.stderr

    def succeed(self, *commands: str, timeout: Timeout | None = None) -> str:
        """Run commands that must end with status 0; their stdout, joined."""
        output = ""
        for command in commands:
            with self.nested(f"must succeed: {command}"):
                status, stdout, stderr = self._execute(command, timeout)
                if status != 0:
                    raise self._failed(f"`{shorten(command)}` failed with status {status}", stdout, stderr)
                output += stdout
        return output

    def fail(self, *commands: str, timeout: Timeout | None = None) -> str:
        """Run commands that must end with another status than 0; their stdout, joined."""
        output = ""
        for command in commands:
            with self.nested(f"must fail: {command}"):
                status, stdout, stderr = self._execute(command, timeout)
                if status == 0:
                    raise self._failed(f"`{shorten(command)}` succeeded, and should not have", stdout, stderr)
                output += stdout
        return output

    def _failed(self, what: str, stdout: str, stderr: str) -> RequestedAssertionFailed:
        said = "\n".join(clean(tail(text, 30)) for text in (stdout, stderr) if text.strip())
        return RequestedAssertionFailed(f"{self.name}: {what}", cause=said or "it said nothing")

    # Waiting

    def retry(self, check: Callable[[bool], bool], timeout: Timeout, what: str, last: Callable[[], str] = str) -> None:
        """Call `check(False)` once a second until it is true; at the end once more, with True."""
        limit = self._deadline.within(in_seconds(timeout), what)
        while not check(False):
            if limit.remaining() <= 1:
                if check(True):
                    return
                allowed = human_seconds(in_seconds(timeout))
                raise RequestedAssertionFailed(f"{self.name}: {what}: not within {allowed}", cause=last())
            time.sleep(1)

    def wait_until_succeeds(self, command: str, timeout: Timeout = PATIENCE) -> str:
        """Run a command again and again until its status is 0; its stdout then."""
        return self._wait_until(command, timeout, True)

    def wait_until_fails(self, command: str, timeout: Timeout = PATIENCE) -> str:
        """Run a command again and again until its status is not 0; its stdout then."""
        return self._wait_until(command, timeout, False)

    def _wait_until(self, command: str, timeout: Timeout, success: bool) -> str:
        word = "success" if success else "failure"
        seen: tuple[int, str, str] = (0, "", "")

        def check(_: bool) -> bool:
            nonlocal seen
            seen = self._execute(command, timeout)
            return (seen[0] == 0) is success

        def last() -> str:
            said = clean(tail(seen[1] + seen[2], 20))
            return f"at last it ended with status {seen[0]}" + (f": {said}" if said else "")

        with self.nested(f"waiting for {word}: {command}"):
            self.retry(check, timeout, f"{word} of `{shorten(command)}`", last)
        return seen[1]

    def wait_for_file(self, filename: str, timeout: Timeout = PATIENCE) -> None:
        """Wait until a file is there."""
        with self.nested(f"waiting for file {filename}"):
            self._wait_quietly(f"test -e {shlex.quote(filename)}", timeout, f"the file {filename}")

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: Timeout = PATIENCE) -> None:
        """Wait until a TCP port takes connections, as the machine itself sees `addr`."""
        with self.nested(f"waiting for TCP port {port} on {addr}"):
            self._wait_quietly(_port(port, addr), timeout, f"port {port} of {addr}")

    def wait_for_closed_port(self, port: int, addr: str = "localhost", timeout: Timeout = PATIENCE) -> None:
        """Wait until a TCP port takes none."""
        with self.nested(f"waiting for TCP port {port} on {addr} to close"):
            self._wait_quietly(f"! {_port(port, addr)}", timeout, f"the end of port {port} of {addr}")

    def wait_for_open_unix_socket(self, addr: str, is_datagram: bool = False, timeout: Timeout = PATIENCE) -> None:
        """Wait until somebody listens on a unix socket."""
        kind = r"^u_dgr +UNCONN" if is_datagram else r"^u_(str|seq) +LISTEN"
        command = f"ss -H -x -a | grep -E {shlex.quote(kind)} | grep -q -F -- {shlex.quote(f' {addr} ')}"
        with self.nested(f"waiting for the unix socket {addr}"):
            self._wait_quietly(command, timeout, f"the unix socket {addr}")

    def _wait_quietly(self, command: str, timeout: Timeout, what: str) -> None:
        self.retry(lambda _: self._execute(command, timeout)[0] == 0, timeout, what)

    def wait_for_console_text(self, regex: str, timeout: Timeout | None = None) -> None:
        """Wait until a line of the console matches."""
        import re

        pattern = re.compile(regex, re.MULTILINE)
        with self.nested(f"waiting for {regex} on the console"):
            what = f"`{regex}` on the console"
            limit = FOREVER if timeout is None else timeout
            self.retry(
                lambda _: bool(pattern.search(self.get_console_log())),
                limit,
                what,
                lambda: tail(self.get_console_log(), 5),
            )

    def sleep(self, secs: float) -> None:
        """Wait that many seconds."""
        self._wire.call(self.name, f"sleeping {secs} s")
        time.sleep(secs)

    # Files

    def copy_from_host(self, source: str, target: str) -> None:
        """Copy a file or a folder of this machine there, as `cp -r` would; folders on the way are made."""
        with (
            self.nested(f"copying {source} to {target}"),
            tempfile.TemporaryDirectory(prefix="g5kdeploy-copy-") as folder,
        ):
            origin, archive = Path(source).absolute(), Path(folder) / "archive.tar"
            self._tar(["-c", "-f", archive, "-C", origin.parent, "--", origin.name], f"reading {source}")
            parent, goal = shlex.quote(str(PurePosixPath(target).parent)), shlex.quote(target)
            command = (
                f'set -e; d=$(mktemp -d); trap \'rm -rf "$d"\' EXIT; tar -x -o -f - -C "$d"; '
                f'mkdir -p -- {parent}; cp -r -- "$d"/{shlex.quote(origin.name)} {goal}'
            )
            self.remote().run(command, self._deadline, input=archive)

    copy_from_host_via_shell = copy_from_host

    def copy_from_machine(self, source: str, target_dir: str = "") -> None:
        """Copy a file or a folder of the machine into the test's folder, below `target_dir`."""
        goal = (self.out_dir / target_dir).resolve()
        if not goal.is_relative_to(self.out_dir.resolve()):
            raise Unsupported(self.name, "copy_from_machine", f"{target_dir} is outside of the test's folder")
        path = PurePosixPath(source)
        with (
            self.nested(f"copying {source} from the machine"),
            tempfile.TemporaryDirectory(prefix="g5kdeploy-copy-") as folder,
        ):
            archive = Path(folder) / "archive.tar"
            command = f"tar -c -f - -C {shlex.quote(str(path.parent))} -- {shlex.quote(path.name)}"
            self.remote().stream(command, archive, self._deadline)
            goal.mkdir(parents=True, exist_ok=True)
            self._tar(["-x", "-o", "-f", archive, "-C", goal], f"writing {goal}")

    copy_from_vm = copy_from_machine

    def _tar(self, words: list[str | Path], what: str) -> None:
        process.run(["tar", *words], self._deadline.within(PATIENCE, what))

    # Telling

    def log(self, msg: str) -> None:
        """Say something about this machine."""
        self._wire.note(msg, self.name)

    @contextlib.contextmanager
    def nested(self, msg: str) -> Iterator[None]:
        """What the block does, for the log."""
        self._wire.call(self.name, msg)
        began = time.monotonic()
        try:
            yield
        except Problem as problem:
            self._wire.call(self.name, f"failed: {problem.what}")
            raise
        self._wire.send("done", machine=self.name, text=msg, seconds=time.monotonic() - began)


def _port(port: int, addr: str) -> str:
    """A command that succeeds when a TCP port takes a connection; bash does it, and every system here has that."""
    return f"timeout 5 bash -c {shlex.quote(f'exec 3<>/dev/tcp/{addr}/{int(port)}')}"
