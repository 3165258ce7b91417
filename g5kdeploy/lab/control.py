"""Start, stop and look at a lab, from the outside of its process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from g5kdeploy.base import files, text
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.settings import Places, Settings

STOP_SECONDS = 30.0


class LabFailed(Problem):
    """The lab did not start, or does not end."""


class NoLab(Problem):
    """No lab runs."""


def _began(pid: int) -> bool:
    """Is this process one of a lab's daemons? A number may have been given to another program since."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"g5kdeploy.lab.daemon" in words


def status(places: Places) -> dict[str, Any] | None:
    """What the running daemon says of itself; None when no lab runs."""
    if not places.record.exists():
        return None
    with contextlib.suppress(Problem, KeyError, TypeError):
        record: dict[str, Any] = files.read_json(places.record)
        if _began(int(record["pid"])):
            return record
    return None


def start(
    places: Places, settings: Settings, deadline: Deadline, say: Callable[[str], None]
) -> tuple[dict[str, Any], bool]:
    """Start a lab and wait until it is ready; returns its record, and whether it was started now (else it ran already).

    Raises `LabFailed` when it does not come up, or when one with other settings runs.
    """
    settings.check()
    own, what = places.folder / "starting", "the start of the lab"
    with contextlib.ExitStack() as alone:
        try:
            alone.enter_context(files.lock(own, what))
        except files.Held:
            say("somebody else starts it just now")
            alone.enter_context(files.lock(own, what, wait=deadline.remaining()))
        return _start(places, settings, deadline, say)


def _start(
    places: Places, settings: Settings, deadline: Deadline, say: Callable[[str], None]
) -> tuple[dict[str, Any], bool]:
    running = status(places)
    if running is not None:
        kept = Settings.load(places.settings)
        if kept != settings:
            raise LabFailed(
                "a lab with other settings runs already",
                cause=f"{kept.nodes} nodes, pace {kept.pace:g}",
                hint="g5kdeploy lab stop, then start it again",
            )
        return running, False
    settings.save(places.settings)
    clean(places)
    read, write = os.pipe()
    try:
        with places.log.open("ab") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "g5kdeploy.lab.daemon", str(places.folder), str(write)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[write],
                start_new_session=True,
                env={**os.environ, **_own_package()},
                cwd="/",
            )
    finally:
        os.close(write)
    try:
        record = _follow(read, places, deadline, say)
        daemon.returncode = 0  # it outlives this process, which does not wait for it
        return record, True
    except BaseException:
        _end(daemon.pid, Deadline.after(STOP_SECONDS, "the end of the lab"), daemon)
        raise
    finally:
        os.close(read)


def _own_package() -> dict[str, str]:
    from g5kdeploy.lab.site.namespace import python_environment

    return python_environment()


def _follow(channel: int, places: Places, deadline: Deadline, say: Callable[[str], None]) -> dict[str, Any]:
    """Read what the daemon tells of its start, until it is ready."""
    rest = b""
    while True:
        if not select.select([channel], [], [], deadline.remaining())[0]:
            raise deadline.error("the lab is not ready yet")
        data = os.read(channel, 65536)
        if not data:
            said = text.clean(text.tail(places.log.read_text(errors="replace"), 3))
            raise LabFailed("the lab ended while it started", cause=said, log=places.log)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if "step" in message:
                say(message["step"])
            elif "ready" in message:
                return dict(message["ready"])
            else:
                raise LabFailed(message["what"], cause=message["cause"], hint=message["hint"], log=places.log)


def stop(places: Places, deadline: Deadline) -> bool:
    """End a lab and everything that it started; False when none ran. Cleans up after one that was killed, too."""
    running = status(places)
    if running is not None:
        _end(int(running["pid"]), deadline, None)
    clean(places)
    return running is not None


def _end(pid: int, deadline: Deadline, child: subprocess.Popen[bytes] | None) -> None:
    """TERM, and KILL when that does not help; the kernel then ends the site's processes with the daemon."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        limit = deadline.within(STOP_SECONDS / 2, "the end of the lab")
        while _there(pid, child):
            if limit.passed():
                break
            limit.clock.sleep(0.05)
        else:
            return
    raise LabFailed(f"the lab's process {pid} does not end", hint=f"kill -9 {pid}")


def _there(pid: int, child: subprocess.Popen[bytes] | None) -> bool:
    return child.poll() is None if child is not None else _began(pid)


def clean(places: Places) -> None:
    """Take away what a lab that was killed left outside of its namespaces: its record, and names in /etc/hosts."""
    from g5kdeploy.lab.site import home

    places.record.unlink(missing_ok=True)
    home.remove_stale()


def environment(record: dict[str, Any]) -> dict[str, str]:
    """The variables that a client of a running lab is given."""
    return {
        "LAB_HOME": record["home"],
        "LAB_URL": record["url"],
        "LAB_USER": record["user"],
        "LAB_SITE": record["site"],
        "LAB_SSH_CONFIG": f"{record['home']}/.ssh/config",
    }


def exports(record: dict[str, Any]) -> str:
    """The variables as a shell reads them."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment(record).items())
