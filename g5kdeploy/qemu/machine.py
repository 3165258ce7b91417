"""A machine that runs: started, watched, reset, ended; found again by another process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from g5kdeploy.base import files, process, text
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.qemu import qmp
from g5kdeploy.qemu.kvm import kvm_works
from g5kdeploy.qemu.spec import MachineSpec, command_line

QMP_SECONDS = 10.0


class MachineFailed(Problem):
    """QEMU did not start, or ended by itself."""


def _started(pid: int) -> str:
    """When a process began, in ticks since boot: with its number, this names it for good. Empty when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


class Machine:
    """One QEMU machine. Its folder holds qmp.sock, console.sock, qemu.log and machine.json; a second `Machine` on the
    same folder, in this process or a later one, is the same machine.
    """

    def __init__(self, spec: MachineSpec) -> None:
        self.spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()

    @property
    def pid(self) -> int | None:
        """The process (of QEMU, or of the prefix that runs it), None when the machine is off."""
        with self._lock:
            if self._process is not None:
                return self._process.pid if self._process.poll() is None else None
        try:
            record = files.read_json(self.spec.folder / "machine.json")
            pid, began = int(record["pid"]), str(record["began"])
        except (Problem, KeyError, TypeError, ValueError):
            return None
        return pid if began and _started(pid) == began else None

    def alive(self) -> bool:
        """Is the machine on?"""
        return self.pid is not None

    def start(self, deadline: Deadline) -> None:
        """Power on and return when QEMU answers; the guest has then only begun to boot. On already: nothing happens."""
        with self._lock:
            if self.alive():
                return
            folder = self.spec.folder
            folder.mkdir(parents=True, exist_ok=True)
            self.spec.console.parent.mkdir(parents=True, exist_ok=True)
            for stale in ("qmp.sock", "console.sock", "machine.json"):
                (folder / stale).unlink(missing_ok=True)
            handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
            try:
                words = command_line(self.spec, kvm_works(deadline), f"/proc/self/fd/{handle}")
                with (folder / "qemu.log").open("wb") as log:
                    self._process = subprocess.Popen(
                        words,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        pass_fds=[handle],
                        start_new_session=True,
                    )
            except OSError as error:
                raise MachineFailed(
                    f"{self.spec.name} could not be started",
                    cause=f"{error.strerror}: {error.filename}",
                    hint="QEMU is in Debian's package qemu-system-x86",
                ) from error
            finally:
                os.close(handle)
            pid = self._process.pid
            files.write_json(folder / "machine.json", {"pid": pid, "began": _started(pid), "name": self.spec.name})
            try:
                self._wait_for_qmp(deadline)
            except BaseException:
                self.stop()
                raise

    def _wait_for_qmp(self, deadline: Deadline) -> None:
        while True:
            with contextlib.suppress(qmp.QmpFailed):
                self.qmp("query-status")
                return
            if not self.alive():
                log = self.spec.folder / "qemu.log"
                said = text.clean(text.tail(log.read_text(errors="replace"), 3))
                raise MachineFailed(f"QEMU ended while it started {self.spec.name}", cause=said, log=log)
            deadline.sleep(0.05, "QEMU's control socket does not answer")

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command, such as `qmp("query-status")`, and return its answer."""
        deadline = Deadline.after(QMP_SECONDS, f"QEMU's answer to {command} for {self.spec.name}")
        return qmp.execute(self.spec.folder / "qmp.sock", deadline, command, arguments)

    def reset(self) -> None:
        """What the reset button does: the guest begins anew, with the kernel that the machine was started with."""
        self.qmp("system_reset")

    def power_off(self) -> None:
        """Cut the power."""
        self.stop()

    def stop(self) -> None:
        """End the machine at once, and collect its process; nothing happens when it is off."""
        with self._lock:
            pid = self.pid
            if pid is not None:
                with contextlib.suppress(Problem):
                    self.qmp("quit")
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(process.GRACE)
                process.stop(self._process)
                self._process = None
            elif pid is not None:
                self._end_adopted(pid)
            (self.spec.folder / "machine.json").unlink(missing_ok=True)

    def _end_adopted(self, pid: int) -> None:
        """End a machine that another process started: its group's TERM, then KILL."""
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, number)
            deadline = Deadline.after(process.GRACE, f"the end of {self.spec.name}")
            while self.pid is not None and not deadline.passed():
                deadline.clock.sleep(0.05)
            if self.pid is None:
                return

    def console_text(self, last: int = 65536) -> str:
        """The end of what the console said, cleaned, at most `last` bytes of it."""
        try:
            with self.spec.console.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - last))
                return text.clean(file.read().decode(errors="replace"))
        except FileNotFoundError:
            return ""
