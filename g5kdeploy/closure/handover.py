"""What a booted closure is given that no store may hold: host key, authorized keys, its name, the names of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from g5kdeploy.base.cpio import Entry, archive


@dataclass(frozen=True)
class Handover:
    """Files that stage 2 lays over the root of one node; piped to it over the connection already checked.

    `hosts` are addresses and their names, `files` further files by their path below /.
    """

    hostname: str
    host_key: str = field(repr=False)
    host_public: str
    authorized_keys: str
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, Entry] = field(default_factory=dict)

    def archive(self) -> bytes:
        """The cpio archive that is appended to the initrd."""
        return archive(
            {
                **{f"handover/{path}": entry for path, entry in self.files.items()},
                "handover/etc/hostname": Entry(f"{self.hostname}\n".encode()),
                "handover/etc/hosts": Entry(hosts_file(self.hosts).encode()),
                "handover/etc/ssh/ssh_host_ed25519_key": Entry(self.host_key.encode(), 0o600),
                "handover/etc/ssh/ssh_host_ed25519_key.pub": Entry(f"{self.host_public}\n".encode()),
                "handover/root/.ssh/authorized_keys": Entry(self.authorized_keys.encode(), 0o600),
            }
        )


def hosts_file(hosts: Mapping[str, tuple[str, ...]]) -> str:
    """The text of /etc/hosts: addresses and their names."""
    lines = "".join(f"{address} {' '.join(names)}\n" for address, names in hosts.items())
    return f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{lines}"


def new_host_key() -> tuple[str, str]:
    """A fresh ed25519 key pair: the secret half in OpenSSH's form, the public half ("ssh-ed25519 AAAA...")."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return secret.decode(), public.decode()
