"""The key that signs what we push; made on first use, kept in the user's configuration, never sent anywhere."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from g5kdeploy.base import debian, files, folders
from g5kdeploy.base.deadline import Deadline


@dataclass(frozen=True)
class Key:
    """A signing key: the secret half's file, and the public half as Nix writes it (`name:base64`)."""

    secret: Path
    public: str = field(repr=True)


def signing_key(deadline: Deadline) -> Key:
    """The user's key; two commands at once get the same one."""
    folder = folders.config() / "cache-key"
    secret, public = folder / "secret", folder / "public"
    with files.lock(folder / "lock", "the cache's signing key", wait=deadline.remaining()):
        if not (secret.exists() and public.exists()):
            name = f"g5kdeploy-{socket.gethostname().split('.')[0]}-1"
            aside = folder / ".new"
            for path in (aside, aside.with_suffix(".pub")):
                path.unlink(missing_ok=True)
            debian.nix(["nix-store", "--generate-binary-cache-key", name, aside, aside.with_suffix(".pub")], deadline)
            aside.chmod(0o600)
            aside.with_suffix(".pub").replace(public)
            aside.replace(secret)
    return Key(secret, public.read_text().strip())
