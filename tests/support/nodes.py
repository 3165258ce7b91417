"""Nodes without a machine: an OpenSSH server in namespaces of its own, with its own root, /proc boot id and loopback.

What a reboot changes changes here as well: boot id, kernel release, host key, running processes, /run. Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.server
import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support import node_inside, systemd_shim
from tests.support.sshd import DEFAULT_PATH, SshServer

PYTHON = "/usr/bin/python3"
CLONE_NEWNET = 0x40000000

# The node's root: the machine's own folders, but for those that a node writes to.
_SETUP = """set -e
node=$1 root=$1/root
mount -t tmpfs tmpfs $root
mkdir -p $root/node $root/scratch $root/run/sshd $root/var/lib/g5kdeploy $root/var/empty $root/var/tmp
chmod 1777 $root/var/tmp
for entry in /*; do
  case $entry in /run|/var|/scratch|/node|/lost+found|/old_root) continue;; esac
  if [ -L "$entry" ]; then cp -a "$entry" $root/
  elif [ -d "$entry" ]; then
    mkdir $root$entry
    case $entry in /proc|/sys|/dev) bind=--rbind;; *) bind=--bind;; esac
    mount $bind $entry $root$entry || [ ! -d $entry ]  # others may make and remove folders there
  fi
done
mount --bind $node $root/node
mount --bind $node/disk $root/scratch
mount --bind $node/hosts $root/etc/hosts
mount --bind $node/boot_id $root/proc/sys/kernel/random/boot_id
ip link set lo up
echo $$ > $node/keeper.new
mv $node/keeper.new $node/keeper
exec chroot $root sh -c 'echo ready; exec sleep infinity'
"""

_SHIMS = {
    "uname": '[ "$1" = -r ] && exec cat /node/release; exec /usr/bin/uname "$@"',
    "findmnt": "echo ext4",  # whatever the machine keeps the tests' folders on
    "journalctl": 'echo "journal of $(cat /node/name)"',
    "systemctl": '[ "$1 $2" = "start g5kdeploy-exporter" ] && exit 0; exec /node/bin/units-systemctl "$@"',
}


def missing() -> str:
    """Why nodes cannot be had here; "" when they can."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    for name in ("unshare", "nsenter", "ip", "sshd", "curl", PYTHON):
        if shutil.which(name, path=DEFAULT_PATH) is None:
            return f"needs {name}"
    probe = subprocess.run(["unshare", "-m", "-n", "--propagation", "private", "true"], capture_output=True, timeout=60)
    return "" if probe.returncode == 0 else f"needs namespaces: {probe.stderr.decode().strip()}"


class Node:
    """A node by its full name. `folder` is /node inside: `calls` is what its exporter counts, `knobs` what is ordered.

    It answers nobody until `install`, which a deployment calls.
    """

    def __init__(self, name: str, folder: Path, authorized: str, public: Path) -> None:
        self.name = name
        self.folder = folder
        self.mute = False  # a deployment ends well, and no sshd ever answers
        for part in ("root", "disk", "knobs", "bin"):
            (folder / part).mkdir(parents=True)
        (folder / "name").write_text(name)
        (folder / "hosts").write_text("127.0.0.1 localhost public.lab.grid5000.fr\n")
        (folder / "boot_id").write_text("00000000-0000-0000-0000-000000000000\n")
        (folder / "release").write_text(node_inside.BASE_RELEASE + "\n")
        (folder / "calls").write_text("0")
        (folder / "system").write_text("")
        self._shims()
        setup = ["unshare", "-m", "-n", "--propagation", "private", "sh", "-c", _SETUP, "sh", str(folder)]
        self._servers: list[http.server.ThreadingHTTPServer] = []
        self._keeper = subprocess.Popen(setup, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert self._keeper.stdout is not None and self._keeper.stderr is not None
            if self._keeper.stdout.readline() != b"ready\n":  # said from inside the new root
                raise AssertionError(self._keeper.stderr.read().decode())
            self._inside = ("nsenter", "-t", str(self._keeper.pid), "-m", "-n", "-r", "-w")
            self.sshd = SshServer(folder / "ssh", authorized, path=f"/node/bin:{DEFAULT_PATH}", inside=self._inside)
            self.be_silent()
            self._servers.append(self._serve(80, lambda path: _file(public, path)))
            self._servers.append(self._serve(9435, lambda path: self._metrics()))
        except BaseException:
            self._end()
            raise

    def _shims(self) -> None:
        folder = self.folder
        for module in (node_inside, systemd_shim):
            shutil.copy(str(module.__file__), folder / "bin")
        for name, text in _SHIMS.items():
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        for name, word in (("systemd-run", "systemd-run"), ("units-systemctl", "systemctl")):
            words = [PYTHON, "-I", "-S", "/node/bin/systemd_shim.py", "/run/units", word]
            (folder / "bin" / name).write_text(f'#!/bin/sh\nmkdir -p /run/units\nexec {shlex.join(words)} "$@"\n')
        for path in (folder / "bin").iterdir():
            path.chmod(0o755)

    def run(self, *words: str) -> None:
        """Run a program inside."""
        subprocess.run([*self._inside, *words], check=True, timeout=120, capture_output=True)

    def install(self, *system: str) -> None:
        """What a deployment does: everything ends, and the base environment comes up with a host key of its own.

        Or, as its kernel's release and its toplevel, the `system` of an image.
        """
        self.be_silent()
        self.run(PYTHON, "-I", "/node/bin/node_inside.py", "reboot", *system)
        self.sshd.new_host_key()
        if not self.mute:
            self.sshd.drop_next = 0

    def be_silent(self) -> None:
        """Greet nobody. The port stays ours: what is given back, another process takes."""
        self.sshd.drop_next = 1_000_000

    def order(self, knob: str) -> None:
        (self.folder / "knobs" / knob).touch()

    def _metrics(self) -> bytes | None:
        if not (self.folder / "system").read_text():
            return None
        calls = (self.folder / "calls").read_text().strip() or "0"
        return (
            "# TYPE g5k_bpf_program_loaded gauge\n"
            'g5k_bpf_program_loaded{config="statx"} 1\n'
            "# TYPE statx_calls_total counter\n"
            f'statx_calls_total{{cgroup="/g5kdeploy.slice/g5kdeploy-workload.slice"}} {calls}\n'
        ).encode()

    def _serve(self, port: int, answer: Callable[[str], bytes | None]) -> http.server.ThreadingHTTPServer:
        """A web server of ours on 127.0.0.1 of the node: its socket is made there, its answers here."""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = answer(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET":
                    with contextlib.suppress(OSError):
                        self.wfile.write(body or b"")

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *words: object) -> None:
                """Quiet."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = self._socket(port)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return server

    def _socket(self, port: int) -> socket.socket:
        made: list[socket.socket | str] = []

        def enter() -> None:
            with open(f"/proc/{self._keeper.pid}/ns/net") as space:  # noqa: PTH123
                if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET) != 0:
                    made.append(os.strerror(ctypes.get_errno()))
                    return
                listener = socket.create_server(("127.0.0.1", port), backlog=64)
                made.append(listener)

        thread = threading.Thread(target=enter)  # a thread of its own: the namespace is the thread's
        thread.start()
        thread.join(60)
        assert made and isinstance(made[0], socket.socket), made
        return made[0]

    def close(self) -> None:
        self.sshd.close()
        with contextlib.suppress(subprocess.SubprocessError):
            self.run(PYTHON, "-I", "/node/bin/node_inside.py", "reboot")
        self._end()

    def _end(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._keeper.send_signal(signal.SIGKILL)
        self._keeper.wait(60)
        for pipe in (self._keeper.stdout, self._keeper.stderr):
            if pipe is not None:
                pipe.close()


def _file(public: Path, path: str) -> bytes | None:
    """`/~user/x` is `x` in the public folder."""
    place = public / path.removeprefix("/~").partition("/")[2]
    return place.read_bytes() if place.is_file() else None
