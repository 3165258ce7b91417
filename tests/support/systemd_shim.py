"""A stand-in for systemd on a machine that has none: transient services through `systemd-run` and `systemctl`.

It does what our units rely on, truthfully: one unit of a name at a time, ExecStartPre, output appended to files, a
working directory, RuntimeMaxSec, the whole group ended with its main process, ExecStopPost told how it went,
Restart=on-failure, and no trace of a unit that is over. Run as `systemd_shim.py STATE systemd-run|systemctl ARGS`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def install(folder: Path, state: Path) -> Path:
    """Put both commands into `folder`, for the front of a PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    state.mkdir(parents=True, exist_ok=True)
    for name in ("systemd-run", "systemctl"):
        script = folder / name
        words = [sys.executable, "-I", "-S", str(Path(__file__).absolute()), str(state), name]
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        script.chmod(0o755)
    return folder


def session(leader: int) -> list[int]:
    """The live processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def end_session(leader: int, number: int) -> None:
    for pid in session(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Service:
    """One transient service, from its start to the end of its last try."""

    def __init__(self, where: Path, properties: dict[str, str], argv: list[str]) -> None:
        self.where = where
        self.properties = properties
        self.argv = argv
        self.stopping = False

    def note(self, state: str, main: int = 0) -> None:
        aside = self.where / f"state.{os.getpid()}"
        aside.write_text(f"{state} {main}")
        aside.rename(self.where / "state")

    def hook(self, name: str, more: dict[str, str] | None = None) -> bool:
        words = shlex.split(self.properties.get(name, "").lstrip("+-"))
        return not words or subprocess.run(words, env={**ENV, **(more or {})}, stdin=subprocess.DEVNULL).returncode == 0

    def once(self, ready: int) -> str:
        """One run of the main process; its result in systemd's words."""
        self.note("activating")
        if not self.hook("ExecStartPre"):
            self.over("exit-code", "exited", "1")
            return "exit-code"
        logs = [Path(self.properties[f"Standard{name}"].removeprefix("append:")) for name in ("Output", "Error")]
        with logs[0].open("ab") as out, logs[1].open("ab") as err:
            try:
                main = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=self.properties.get("WorkingDirectory"),
                    user=self.properties.get("User"),
                    env=ENV,
                    start_new_session=True,
                )
            except OSError:
                self.over("exit-code", "exited", "203")
                return "exit-code"
        self.note("active", main.pid)
        with contextlib.suppress(OSError):
            os.write(ready, b"ok")
            os.close(ready)
        result = self.wait(main)
        code, status = ("exited", str(main.returncode)) if main.returncode >= 0 else ("killed", "")
        if code == "killed":
            status = signal.Signals(-main.returncode).name.removeprefix("SIG")
        if result == "success" and main.returncode != 0:
            clean = status in ("HUP", "INT", "TERM", "PIPE")
            result = "exit-code" if code == "exited" else "success" if clean else "signal"
        self.over(result, code, status)
        return result

    def wait(self, main: subprocess.Popen[bytes]) -> str:
        limit = float(self.properties.get("RuntimeMaxSec", "inf"))
        grace = float(self.properties.get("TimeoutStopSec", "90"))
        began = time.monotonic()
        asked = 0.0
        result = "success"
        while main.poll() is None:
            now = time.monotonic()
            if not asked and (self.stopping or now - began >= limit):
                result = "success" if self.stopping else "timeout"
                asked = now
                end_session(main.pid, signal.SIGTERM)
            elif asked and now - asked >= grace:
                end_session(main.pid, signal.SIGKILL)
            time.sleep(0.02)
        end_session(main.pid, signal.SIGKILL)
        return result

    def over(self, result: str, code: str, status: str) -> None:
        self.note("deactivating")
        self.hook("ExecStopPost", {"SERVICE_RESULT": result, "EXIT_CODE": code, "EXIT_STATUS": status})

    def serve(self, ready: int) -> None:
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))
        again = self.properties.get("Restart") == "on-failure"
        while True:
            failed = self.once(ready) != "success"
            if not (failed and again) or self.stopping:
                break
            self.note("activating")
            time.sleep(float(self.properties.get("RestartSec", "0.1")))
        for name in ("supervisor", "state"):
            (self.where / name).unlink(missing_ok=True)
        self.where.rmdir()


def systemd_run(state: Path, words: list[str]) -> int:
    properties: dict[str, str] = {}
    unit = ""
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "-p":
            name, _, value = words.pop(0).partition("=")
            properties[name] = value
        elif word.startswith("--unit="):
            unit = word.partition("=")[2]
        elif not word.startswith(("--slice=", "--description=", "--quiet", "--collect")):
            sys.exit(f"systemd-run: unrecognized option '{word}'")
    where = state / unit
    try:
        where.mkdir()
    except FileExistsError:
        return complain(f"Failed to start transient service unit: Unit {unit} was already loaded.")
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        (where / "supervisor").write_text(str(os.getpid()))
        Service(where, properties, words).serve(writing)
        os._exit(0)
    os.close(writing)
    if os.read(reading, 2) == b"ok":  # as Type=exec: the main process runs
        return 0
    return complain(f'Job for {unit} failed. See "journalctl -xeu {unit}" for details.')


def complain(text: str, status: int = 1) -> int:
    sys.stderr.write(text + "\n")
    return status


def systemctl(state: Path, words: list[str]) -> int:
    unit = words[-1]
    try:
        active, main = (state / unit / "state").read_text().split()
    except OSError:
        active, main = "inactive", "0"
    match words[0]:
        case "show":
            sys.stdout.write({"ActiveState": active, "MainPID": main}[words[2]] + "\n")
        case "is-active":
            return 0 if active == "active" else 3
        case "stop":
            try:
                os.kill(int((state / unit / "supervisor").read_text()), signal.SIGTERM)
            except (OSError, ValueError):
                return complain(f"Failed to stop {unit}: Unit {unit} not loaded.", 5)
            while (state / unit).exists():
                time.sleep(0.02)
        case other:
            sys.exit(f"Unknown command verb {other}.")
    return 0


if __name__ == "__main__":
    commands = {"systemd-run": systemd_run, "systemctl": systemctl}
    sys.exit(commands[sys.argv[2]](Path(sys.argv[1]), sys.argv[3:]))
