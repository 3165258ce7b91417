"""Who we are on a testbed: python-grid5000's file, the environment, or nothing on a frontend; never silently anonymous."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_URI = "https://api.grid5000.fr/stable"


@dataclass(frozen=True)
class Credentials:
    """What a client needs to be let in; `origin` says where it came from, the password is never shown.

    `timeout` is the longest silence, in seconds, that one request may last.
    """

    uri: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    verify_ssl: bool | str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    ssluser: str | None = None
    timeout: float = 30.0
    origin: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be blotted out of every text."""
        return (self.password,) if self.password else ()


def load(home: Path, environ: Mapping[str, str] | None = None, hostname: str | None = None) -> Credentials:
    """The credentials of the testbed whose client settings are in `home`.

    `environ` (G5KDEPLOY_USERNAME, G5KDEPLOY_PASSWORD, G5KDEPLOY_PASSWORD_COMMAND) goes before the file; pass none for
    the lab. On a site's frontend none at all are needed. Raises `NotAllowed` when there are none or the file is
    unprotected, `InvalidUse` when the file is not what it should be.
    """
    raise NotImplementedError
