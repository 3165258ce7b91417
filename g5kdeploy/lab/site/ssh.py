"""The site's SSH servers. Frontend and gateway listen twice: on an address of 127.0.0.0/8 for the world outside, where
each connection is given to an sshd of its own inside the site's namespaces, and on the site's network, for nodes and
jumps.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base import process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.accepting import connections

log = logging.getLogger(__name__)

CONNECTIONS = 256
COMMANDS = "/run/site/bin"  # where a login shell finds kaconsole3 and the like


def make_key(path: Path, comment: str) -> str:
    """An ed25519 key pair at `path`, made when it is not there; returns the public key's line."""
    public = path.with_name(f"{path.name}.pub")
    if not (path.exists() and public.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        deadline = Deadline.after(30, "a new SSH key")
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], deadline)
    return public.read_text().strip()


def sshd_program() -> str:
    """Path of sshd, which wants to be called by its full name."""
    import shutil

    found = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Problem("sshd is not installed", hint="apt-get install openssh-server (no service needs to be enabled)")
    return found


def sshd_configuration(host_key: str, address: str, users: Sequence[str]) -> str:
    """Configuration of frontend or gateway: keys only, no root, forwarding for jumps, sftp."""
    lines = [
        f"ListenAddress {address}:22",
        f"HostKey {host_key}",
        "AuthorizedKeysFile .ssh/authorized_keys",
        f"AllowUsers {' '.join(users)}",
        "PermitRootLogin no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "UseDNS no",
        "PidFile none",
        "PrintMotd no",
        "PrintLastLog no",
        "AllowTcpForwarding yes",
        "MaxStartups 100:30:300",
        "MaxSessions 100",
        "AcceptEnv LANG LC_*",
        f"SetEnv PATH={COMMANDS}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "Subsystem sftp internal-sftp",
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Address:
    """Where a door is from outside."""

    host: str
    port: int


class Door:
    """A listening socket outside the site; each connection becomes the standard input and output of `command`.

    `strangers`: so many connections may be there at once that nobody has logged in on; 0 for any number.
    """

    def __init__(self, where: Address, command: Sequence[str], log_file: Path, strangers: int = 0) -> None:
        self._command = list(command)
        self._strangers = strangers
        self._log_file = log_file
        self._children: set[subprocess.Popen[bytes]] = set()
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((where.host, where.port))
            self._listener.listen(128)
        except OSError:
            self._listener.close()
            raise
        self.address = Address(*self._listener.getsockname()[:2])
        self._thread = threading.Thread(target=self._accept, name=f"door {self.address}", daemon=True)

    def open(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def _accept(self) -> None:
        for connection in connections(self._listener):
            self._children = {child for child in self._children if child.poll() is None}
            if len(self._children) >= CONNECTIONS:
                continue
            if self._strangers and sum(map(_is_strange, self._children)) >= self._strangers:
                with contextlib.suppress(OSError):
                    connection.sendall(b"Exceeded MaxStartups\r\n")
                continue
            try:
                with self._log_file.open("ab") as said:
                    child = subprocess.Popen(
                        self._command,
                        stdin=connection.fileno(),
                        stdout=connection.fileno(),
                        stderr=said,
                        start_new_session=True,
                    )
                self._children.add(child)
            except OSError as error:
                log.warning("a connection to %s was dropped: %s", self.address, error)

    def close(self) -> None:
        """Stop accepting, and end the connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread.ident is not None:
            self._thread.join(process.GRACE)
        for child in self._children:
            process.stop(child, 1.0)
        self._children.clear()


def _is_strange(child: subprocess.Popen[bytes]) -> bool:
    """Has nobody logged in on this server's connection yet? It calls itself `sshd: USER` when somebody has."""
    waiting = [child.pid]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
            if re.fullmatch(r"sshd: [^\[\]]+", title):
                return False
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return child.poll() is None


def open_doors(
    wanted: Sequence[tuple[Address, Sequence[str], int]], log_file: Path, *, privileged: bool, remembered: Sequence[int]
) -> list[Door]:
    """A door for each address and command, with the number of strangers that it stands.

    On port 22 where that is allowed and free, else on the ports that served the last time, else on any.
    """
    doors: list[Door] = []
    for number, (where, command, strangers) in enumerate(wanted):
        ports = [22] if privileged else []
        ports += list(remembered[number : number + 1])
        for port in (*ports, 0):
            try:
                doors.append(Door(Address(where.host, port), command, log_file, strangers))
                break
            except OSError as error:
                if port == 0:
                    for door in doors:
                        door.close()
                    raise Problem(f"no port of {where.host} can be listened on", cause=str(error)) from error
    return doors
