"""A small site for closures: a frontend that is a real sshd, its web server, and a machine in a base environment."""

from __future__ import annotations

import functools
import http.server
import shlex
import shutil
import socket
import threading
from collections.abc import Iterable
from pathlib import Path

from g5kdeploy.base import cpio, debian
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.lab.site import disk
from g5kdeploy.qemu import Disk, Machine, MachineSpec, UserNet
from tests.support.lab import environment
from tests.support.sshd import SshServer, make_key, write_ssh_config

GUEST_SEES_HOST = "10.0.2.2"
NEEDED = ("nix", "nix-build", "apt-get", "dpkg-deb", "mksquashfs", "cpio", "clang", "sshd")


def missing(*, vm: bool = False) -> list[str]:
    """Programs that a build needs, with `vm` those that a machine needs, too, and this one has not got."""
    wanted = (*NEEDED, "qemu-system-x86_64", "sfdisk", "mkfs.ext4") if vm else NEEDED
    return [name for name in wanted if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin") is None]


def shared_cache(home: Path) -> Path:
    """A home of its own for g5kdeploy, with the cache that all tests share: packages are fetched and built once."""
    environment(home)
    return home


def compose(folder: Path, word: str) -> Path:
    """A composition with one role: a service in C that serves a word on a port, a script, a file."""
    folder.mkdir(parents=True)
    (folder / "made_up.c").write_text(_SERVICE)
    (folder / "roles.nix").write_text(_ROLES.replace("WORD", word))
    return folder


_ROLES = """{
  roles.made = {
    packages = [ ];
    binaries.made-up = ./made_up.c;
    files."/etc/made-up" = "WORD\\n";
    files."/usr/bin/made-up-script" = "#!/bin/sh\\ncat /etc/made-up\\n";
    services.made-up = { command = "/usr/bin/made-up"; after = [ "network.target" ]; user = "nobody"; };
  };
}
"""

_SERVICE = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    struct sockaddr_in me = {.sin_family = AF_INET, .sin_port = htons(4567)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&me, sizeof me) != 0 || listen(listener, 8) != 0)
        return 1;
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        char word[256];
        FILE *file = fopen("/etc/made-up", "r");
        size_t count = file ? fread(word, 1, sizeof word, file) : 0;
        if (file)
            fclose(file);
        if (write(peer, word, count) < 0)
            perror("write");
        close(peer);
    }
}
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        with Path(self.directory, "requests.log").open("a") as log:
            log.write(f"{self.requestline}\n")

    def translate_path(self, path: str) -> str:
        """`/~user/x` is `x` in that user's `public`."""
        _, _, rest = path.removeprefix("/~").partition("/")
        return super().translate_path("/" + rest)


class Web:
    """A web server of a folder, on a port of its own of 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)


class Frontend:
    """A frontend with a home and `~/public`, reached as the host `frontend` of the SSH home `client`; and the names of
    machines, each with a port of 127.0.0.1 that leads to its SSH server.
    """

    def __init__(self, folder: Path, machines: Iterable[str] = ()) -> None:
        self.home = folder / "frontend"
        (self.home / "public").mkdir(parents=True)
        self.client = folder / "client"
        key = make_key(self.client / ".ssh" / "id_ed25519")
        self.authorized = key.with_suffix(".pub").read_text()
        inner = shlex.quote(f'cd {shlex.quote(str(self.home))} && export HOME="$PWD" && eval "$SSH_ORIGINAL_COMMAND"')
        self.sshd = SshServer(folder / "sshd", self.authorized, f"ForceCommand sh -c {inner}")
        self.ports = {name: free_port() for name in machines}
        hosts = {"frontend": (self.sshd.port, self.sshd.user)}
        hosts |= {name: (port, "root") for name, port in self.ports.items()}
        blocks = [
            f"Host {name}\n HostName 127.0.0.1\n Port {port}\n User {user}\n IdentityFile {key}\n IdentitiesOnly yes"
            for name, (port, user) in hosts.items()
        ]
        write_ssh_config(self.client, *blocks)
        self.web = Web(self.home / "public")

    @property
    def public(self) -> Path:
        return self.home / "public"

    def close(self) -> None:
        self.web.close()
        self.sshd.close()


def free_port() -> int:
    """A port that nobody listens on now; QEMU cannot be asked which one it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def base_machine(
    name: str, folder: Path, frontend: Frontend, deadline: Deadline, *, memory: int = 1536, scratch: bool = True
) -> Machine:
    """A machine that starts the environment debian12-min from its disk, as the lab's deployment leaves it."""
    made = debian.environment("debian12-min", deadline)
    folder.mkdir(parents=True)
    disks: tuple[Disk, ...]
    if scratch:
        disk.make(folder / "disk", deadline)
        disk.fill(disk.partitions(folder / "disk", deadline)[disk.DEPLOY], made.image, deadline)
        disks, store = (Disk(folder / "disk"),), f"PARTLABEL={disk.DEPLOY}"
    else:
        disks, store = (Disk(made.image, readonly=True),), "/dev/vda"
    entries = {
        "handover/etc/hostname": cpio.Entry(f"{name}\n".encode()),
        "handover/root/.ssh/authorized_keys": cpio.Entry(frontend.authorized.encode(), 0o600),
    }
    initrd = folder / "initrd"
    initrd.write_bytes(made.initrd.read_bytes() + cpio.archive(entries))
    spec = MachineSpec(
        name=name,
        folder=folder,
        console=folder / "console.log",
        kernel=made.kernel,
        initrd=initrd,
        append=f"{made.append} store={store}",
        memory=memory,
        disks=disks,
        nics=(UserNet("52:54:00:12:34:56", {frontend.ports[name]: 22}, restrict=False),),
    )
    machine = Machine(spec)
    machine.start(deadline)
    return machine
