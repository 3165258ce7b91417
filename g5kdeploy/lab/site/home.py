"""What a client of the lab is given: LAB_HOME with credentials and SSH settings; as root, names in /etc/hosts too."""

from __future__ import annotations

import fcntl
import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base import files
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.site.names import ACCESS, Names
from g5kdeploy.lab.site.ssh import Address

HOSTS = Path("/etc/hosts")
BEGIN, END = "# BEGIN g5kdeploy lab", "# END g5kdeploy lab"


@dataclass(frozen=True)
class Machine:
    """One that lets users in: its names, the full one first, its addresses outside and inside, and its public host key."""

    names: tuple[str, ...]
    outside: Address
    inside: str
    host_key: str


def loopback(folder: Path, number: int) -> str:
    """The address outside of the nth machine, counted from 1: in a part of 127.0.0.0/8 that depends on the lab's folder."""
    digest = hashlib.sha256(f"{folder}".encode()).digest()
    return f"127.{87 + digest[0] % 100}.{digest[1]}.{number}"


def password(path: Path) -> str:
    """The lab user's password, made on first use and kept where only its owner can read it."""
    if not path.exists():
        files.write(path, secrets.token_urlsafe(12) + "\n", 0o600)
    return path.read_text().strip()


def credentials(url: str, user: str, secret: str) -> str:
    """The content of .python-grid5000.yaml."""
    return f"uri: {url}\nusername: {user}\npassword: {secret}\nverify_ssl: true\n"


def ssh_config(home: Path, user: str, access: Address, sites: Sequence[Names]) -> str:
    """SSH settings with which every host of the sites is reached through the gateway, without /etc/hosts."""
    own = home / ".ssh"
    frontends = " ".join(["frontend", *(name for one in sites for name in one.frontend_names)])
    clusters = " ".join(f"{one.cluster}-*" for one in sites)
    domains = " ".join(f"*.{one.domain}" for one in sites)
    return f"""\
Host access.grid5000.fr access
  HostName {access.host}
  Port {access.port}
  HostKeyAlias {ACCESS}
  ProxyJump none

# Nodes get new host keys with every deployment
Host {clusters}
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR

Host {frontends} {domains} {clusters}
  ProxyJump {ACCESS}

Host *.grid5000.fr access {frontends} {clusters}
  User {user}
  IdentityFile {own / "id_ed25519"}
  IdentitiesOnly yes
  UserKnownHostsFile {own / "known_hosts"}
"""


def known_hosts(machines: Sequence[Machine]) -> str:
    """Host keys of gateway and frontends under all their names."""
    lines = []
    for one in machines:
        where = one.outside
        outside = where.host if where.port == 22 else f"[{where.host}]:{where.port}"
        lines.append(f"{','.join([*one.names, one.inside, outside])} {' '.join(one.host_key.split()[:2])}\n")
    return "".join(lines)


def hosts_block(folder: Path, machines: Sequence[Machine]) -> str:
    """The fenced lines for /etc/hosts; the fence names the lab's folder."""
    lines = "".join(f"{one.outside.host} {' '.join(one.names)}\n" for one in machines)
    return f"{BEGIN} {folder}\n{lines}{END}\n"


def without_blocks(text: str, gone: Callable[[Path], bool]) -> str:
    """/etc/hosts without the lines of those labs (known by their folders) that are gone."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if line.startswith(BEGIN):
            inside = gone(Path(line.removeprefix(BEGIN).strip()))
        if not inside:
            kept.append(line)
        if line.startswith(END):
            inside = False
    return "".join(kept)


def _gone(folder: Path) -> bool:
    """Has the lab of that folder ended? A running one holds its lock."""
    if not folder.is_dir():
        return True
    try:
        with files.lock(folder / "lock", "the lab"):
            return True
    except Problem:
        return False


def remove_stale(path: Path = HOSTS) -> None:
    """Take the names of labs that have ended, or were killed, out of /etc/hosts."""
    _rewrite(path, lambda text: without_blocks(text, _gone))


def write_hosts(block: str, path: Path = HOSTS) -> bool:
    """Put the lab's names into /etc/hosts; False when another lab's are there, or when it cannot be written."""

    def add(text: str) -> str:
        if BEGIN in text:
            return text
        return text + ("" if text.endswith("\n") or not text else "\n") + block

    return block in _rewrite(path, add)


def remove_hosts(block: str, path: Path = HOSTS) -> None:
    """Take the lab's own names out of /etc/hosts again."""
    if block:
        _rewrite(path, lambda text: text.replace(block, ""))


def _rewrite(path: Path, change: Callable[[str], str]) -> str:
    """Change /etc/hosts, one lab after the other; what is in it then, "" when it cannot be written.

    In place: it is often a mount of its own, which cannot be renamed over.
    """
    try:
        with path.open("r+", encoding="utf-8", errors="surrogateescape", newline="") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = file.read()
            wanted = change(text)
            if wanted != text:
                file.seek(0)
                file.write(wanted)
                file.truncate()
    except OSError:
        return ""
    return wanted
