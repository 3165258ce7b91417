"""Real OpenSSH servers for tests: one `sshd -i` for each connection, behind a listener of the test's own.

So a connection can be counted and cut, a server can go away and come back on the same address, and no port is guessed.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
DEFAULT_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def make_key(path: Path) -> Path:
    """A new ed25519 key pair without a passphrase."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, timeout=60)
    return path


class SshServer:
    """An SSH server on a port of 127.0.0.1; the user who runs the tests may enter with `authorized`."""

    def __init__(
        self, folder: Path, authorized: str, *options: str, path: str = DEFAULT_PATH, inside: tuple[str, ...] = ()
    ) -> None:
        """`inside` are words in front of each sshd, such as a call of nsenter."""
        self.inside = inside
        (folder / "home").mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:  # where sshd shuts in its unprivileged half; a boot without systemd does not make it
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.folder = folder
        self.user = getpass.getuser()
        self.connections = 0
        self.drop_next = 0  # connections that are closed without a greeting
        self.host_key = ""
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        (folder / "authorized_keys").write_text(authorized)
        self.new_host_key()
        lines = [
            f"HostKey {folder / 'host_key'}",
            f"AuthorizedKeysFile {folder / 'authorized_keys'}",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UseDNS no",
            "LogLevel VERBOSE",
            "Subsystem sftp internal-sftp",
            # A home of its own: the real one's .bashrc has no business here.
            f"SetEnv HOME={folder / 'home'} PATH={path}",
            *options,
        ]
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")
        self._listener: socket.socket | None = None
        self.port = 0
        self.listen()

    def new_host_key(self) -> None:
        """What a new deployment does to a node."""
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink(missing_ok=True)
        self.host_key = " ".join(make_key(self.folder / "host_key").with_suffix(".pub").read_text().split()[:2])

    def listen(self) -> None:
        """Take connections, on the same port as before."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Take no connections any more; those there are go on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def cut(self) -> int:
        """End every connection, as a server does that is killed; how many there were."""
        with self._lock:
            alive = self._living()
            self._children = []
            for child in alive:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(60)
        return len(alive)

    def busy(self) -> bool:
        """Whether there is any connection."""
        with self._lock:
            return bool(self._living())

    def pause(self) -> None:
        """Stop answering without closing anything, as a machine does whose power is cut."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self.refuse()
        self.cut()

    def _signal(self, number: int) -> None:
        with self._lock:
            for child in self._living():
                os.killpg(child.pid, number)

    def _living(self) -> list[subprocess.Popen[bytes]]:
        """The connections that still are; one that ended has lost its number, which another process may have now."""
        self._children = [child for child in self._children if child.poll() is None]
        return self._children

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                if self._listener is not listener:
                    return
                time.sleep(0.05)  # a connection that went away, or no descriptor free for it
                continue
            with wire, self._lock, (self.folder / "log").open("ab") as log:
                self.connections += 1
                if self.drop_next > 0:
                    self.drop_next -= 1
                    continue
                child = subprocess.Popen(
                    [*self.inside, SSHD, "-i", "-e", "-f", self.folder / "sshd_config"],
                    stdin=wire,
                    stdout=wire,
                    stderr=log,
                    start_new_session=True,
                )
                self._children = [*self._living(), child]


def write_ssh_config(home: Path, *blocks: str) -> None:
    """The SSH configuration of a home, out of whole `Host` blocks."""
    (home / ".ssh").mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / ".ssh" / "config").write_text("\n".join(blocks) + "\n")


@contextlib.contextmanager
def frontend(home: Path, folder: Path, name: str = "flab.lab.grid5000.fr") -> Iterator[SshServer]:
    """A site's frontend with nothing but SSH, which the owner of that home may enter."""
    key = make_key(home / ".ssh" / "id_ed25519")
    server = SshServer(folder, key.with_suffix(".pub").read_text())
    write_ssh_config(
        home,
        f"Host {name}\n HostName 127.0.0.1\n Port {server.port}\n User {server.user}\n IdentityFile {key}\n"
        " IdentitiesOnly yes",
    )
    try:
        yield server
    finally:
        server.close()
