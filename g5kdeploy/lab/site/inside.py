"""The first process of the site's namespaces. It sets the stage, collects orphans, and ends when its parent does.

When this process ends, for whatever reason, the kernel ends every other process of the site and takes away its network:
nothing of a lab can outlive its daemon, not even after a kill -9.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from g5kdeploy.base import process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem

MS_BIND, MS_REC = 4096, 16384


def _mount(source: str, target: str, kind: str | None, flags: int = 0, options: str | None = None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [None if word is None else word.encode() for word in (source, target, kind, options)]
    if libc.mount(words[0], words[1], words[2], flags, words[3]) != 0:
        error = ctypes.get_errno()
        raise Problem(f"{source} cannot be mounted on {target}", cause=os.strerror(error))


def _stage(config: dict[str, Any]) -> None:
    """What a login shell on frontend and gateway sees: homes, accounts, names and commands of the site."""
    run = Path("/run")
    outside = {name: os.open(path, os.O_PATH) for name, path in config["binds"].items()}
    files = {target: Path(source).read_text() for target, source in config["files"].items()}
    _mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
    (run / "sshd").mkdir()
    for target, handle in outside.items():
        if target.startswith("/home/"):
            continue
        Path(target).mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{handle}", target, None, MS_BIND | MS_REC)
    _mount("tmpfs", "/home", "tmpfs", 0, "mode=755")
    for target, handle in outside.items():
        if target.startswith("/home/"):
            Path(target).mkdir(parents=True)
            _mount(f"/proc/self/fd/{handle}", target, None, MS_BIND | MS_REC)
    own = run / "etc"
    own.mkdir()
    for target, content in files.items():
        source = own / Path(target).name
        source.write_text(content)
        source.chmod(0o640 if target == "/etc/shadow" else 0o644)
        real = Path(os.path.realpath(target))
        if not real.exists():  # such as a resolv.conf that points into the /run that was hidden just now
            real.parent.mkdir(parents=True, exist_ok=True)
            real.touch()
        _mount(str(source), str(real), None, MS_BIND)
    _mount("proc", "/proc", "proc")
    socket.sethostname(config["hostname"])


def _network(config: dict[str, Any]) -> None:
    """The production network: a bridge with the site's own addresses, and a tap for each node."""
    deadline = Deadline.after(30, "the site's network")
    batch = ["link set lo up", "link add production type bridge", "link set production type bridge forward_delay 0"]
    batch += [f"address add {address} dev production" for address in config["addresses"]]
    batch.append("link set production up")
    for tap in config["taps"]:
        batch += [f"tuntap add dev {tap} mode tap", f"link set {tap} master production up"]
    process.run(["ip", "-batch", "-"], deadline, input="\n".join(batch) + "\n")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0\n")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _collect(*_: object) -> None:
    """Orphans of the site end up here."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> int:
    """Read the configuration from stdin's first line, set up, say `ready PID`, wait for stdin's end."""
    config = json.loads(sys.stdin.readline())
    pid = Path("/proc/self").readlink()  # /proc is still the parent's: our number as it is seen outside
    try:
        _network(config)
        _stage(config)
    except (Problem, OSError) as error:
        _say(f"failed {error}")
        return 1
    signal.signal(signal.SIGCHLD, _collect)
    _say(f"ready {pid}")
    while not select.select([sys.stdin], [], [])[0] or os.read(sys.stdin.fileno(), 4096):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
