"""The description of one store path in a binary cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base.problem import Problem


@dataclass(frozen=True)
class Narinfo:
    """A narinfo file: its name and hash, its archive's place and size in bytes, and the names of the keys that signed."""

    name: str
    digest: str
    url: str
    file_size: int
    signers: tuple[str, ...]

    @classmethod
    def parse(cls, name: str, content: bytes) -> Narinfo:
        """Read one; a `Problem` when it names no archive."""
        fields: dict[str, list[str]] = {}
        for line in content.decode(errors="replace").splitlines():
            key, _, value = line.partition(": ")
            fields.setdefault(key, []).append(value)
        try:
            url, size = fields["URL"][0], int(fields["FileSize"][0])
        except (KeyError, ValueError) as error:
            raise Problem(f"{name} is no description of a store path", cause="URL or FileSize is missing") from error
        signers = tuple(signature.partition(":")[0] for signature in fields.get("Sig", ()))
        return cls(name, hashlib.sha256(content).hexdigest(), url, size, signers)

    @classmethod
    def load(cls, path: Path) -> Narinfo:
        try:
            return cls.parse(path.name, path.read_bytes())
        except OSError as error:
            raise Problem(f"{path} cannot be read", cause=error.strerror or str(error)) from error


def name_of(path: str) -> str:
    """The file name of a store path's narinfo: the path's hash part."""
    return f"{Path(path).name[:32]}.narinfo"
