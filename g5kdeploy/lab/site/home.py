"""What a client of the lab is given: LAB_HOME with credentials and SSH settings; as root, names in /etc/hosts too."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from g5kdeploy.base import files
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.site import names
from g5kdeploy.lab.site.ssh import Address

HOSTS = Path("/etc/hosts")
BEGIN, END = "# BEGIN g5kdeploy lab", "# END g5kdeploy lab"


def loopback(folder: Path, attempt: int = 0) -> tuple[str, str]:
    """Addresses of gateway and frontend outside: a pair in 127.0.0.0/8 that depends on the lab's folder."""
    digest = hashlib.sha256(f"{folder} {attempt}".encode()).digest()
    prefix = f"127.{87 + digest[0] % 100}.{digest[1]}"
    return f"{prefix}.1", f"{prefix}.2"


def password(path: Path) -> str:
    """The lab user's password, made on first use and kept where only its owner can read it."""
    if not path.exists():
        files.write(path, secrets.token_urlsafe(12) + "\n", 0o600)
    return path.read_text().strip()


def credentials(url: str, user: str, secret: str) -> str:
    """The content of .python-grid5000.yaml."""
    return f"uri: {url}\nusername: {user}\npassword: {secret}\nverify_ssl: true\n"


def ssh_config(home: Path, user: str, access: Address) -> str:
    """SSH settings with which every host of the site is reached through the gateway, without /etc/hosts."""
    own = home / ".ssh"
    frontends = " ".join(name for name in names.FRONTEND_NAMES)
    return f"""\
Host access.grid5000.fr access
  HostName {access.host}
  Port {access.port}
  HostKeyAlias {names.ACCESS}
  ProxyJump none

# Nodes get new host keys with every deployment
Host {names.CLUSTER}-*
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR

Host {frontends} *.{names.DOMAIN} {names.CLUSTER}-*
  ProxyJump {names.ACCESS}

Host *.grid5000.fr access {frontends} {names.CLUSTER}-*
  User {user}
  IdentityFile {own / "id_ed25519"}
  IdentitiesOnly yes
  UserKnownHostsFile {own / "known_hosts"}
"""


def known_hosts(access: Address, frontend: Address, access_key: str, frontend_key: str) -> str:
    """Host keys of gateway and frontend under all their names."""

    def line(found: Sequence[str], where: Address, key: str) -> str:
        outside = where.host if where.port == 22 else f"[{where.host}]:{where.port}"
        return f"{','.join([*found, outside])} {' '.join(key.split()[:2])}\n"

    return line((names.ACCESS, "access", names.ACCESS_IP), access, access_key) + line(
        (*names.FRONTEND_NAMES, names.FRONTEND_IP), frontend, frontend_key
    )


def hosts_block(folder: Path, access: Address, frontend: Address) -> str:
    """The fenced lines for /etc/hosts; the fence names the lab's folder."""
    names_of_frontend = " ".join(names.FRONTEND_NAMES)
    return f"{BEGIN} {folder}\n{access.host} {names.ACCESS}\n{frontend.host} {names_of_frontend}\n{END}\n"


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
    try:
        text = path.read_text()
        kept = without_blocks(text, _gone) if BEGIN in text else text
        if kept != text:
            _overwrite(path, kept)
    except OSError:
        return


def write_hosts(block: str, path: Path = HOSTS) -> bool:
    """Put the lab's names into /etc/hosts; False when another lab's are there, or when it cannot be written."""
    try:
        text = path.read_text()
        if BEGIN in text and block not in text:
            return False
        if block not in text:
            _overwrite(path, text + ("" if text.endswith("\n") or not text else "\n") + block)
    except OSError:
        return False
    return True


def remove_hosts(block: str, path: Path = HOSTS) -> None:
    """Take the lab's own names out of /etc/hosts again."""
    try:
        text = path.read_text()
        if block and block in text:
            _overwrite(path, text.replace(block, ""))
    except OSError:
        return


def _overwrite(path: Path, text: str) -> None:
    """In one write, and in place: /etc/hosts is often a mount of its own, which cannot be renamed over."""
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
        os.ftruncate(handle, len(text.encode()))
    finally:
        os.close(handle)
