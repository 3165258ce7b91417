"""Who we are on a testbed: python-grid5000's file, the environment, nothing on a frontend; never quietly anonymous."""

from __future__ import annotations

import getpass
import logging
import re
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from g5kdeploy.base import process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.failure import InvalidUse, NotAllowed

log = logging.getLogger(__name__)

DEFAULT_URI = "https://api.grid5000.fr/stable"
FILE_NAME = ".python-grid5000.yaml"
_FRONTEND = re.compile(r"f([a-z]+)\.\1\.grid5000\.fr")
_KEYS = {"uri", "username", "password", "verify_ssl", "timeout", "session", "sslcert", "sslkey", "ssluser"}
_PASSWORD_COMMAND_SECONDS = 60.0


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
    path = home / FILE_NAME
    found = _from_file(path) if path.exists() else None
    known = _with_environment(found or Credentials(DEFAULT_URI), environ or {})
    if known.sslcert or (known.username and known.password):
        return known
    if found is None and is_frontend(hostname):
        return Credentials(DEFAULT_URI, username=known.username or getpass.getuser(), origin="this frontend")
    if known.username and known.origin:
        raise NotAllowed(
            f"there is no password for {known.username}",
            cause=f"{known.origin} gives a user name alone",
            hint=f"add `password:` to {path}, or set G5KDEPLOY_PASSWORD or G5KDEPLOY_PASSWORD_COMMAND",
        )
    raise NotAllowed(
        "there are no credentials for the testbed",
        cause=f"{path} gives none" if found else f"{path} does not exist, and G5KDEPLOY_USERNAME is not set",
        hint=f"write `username: LOGIN` and `password: ...` into {path} and `chmod 600` it, "
        "or set G5KDEPLOY_USERNAME and G5KDEPLOY_PASSWORD_COMMAND",
    )


def is_frontend(hostname: str | None = None) -> bool:
    """Whether a machine (default: this one) is a site's frontend, by its full name."""
    return _FRONTEND.fullmatch(hostname or socket.getfqdn()) is not None


def _from_file(path: Path) -> Credentials:
    try:
        if not path.is_file():
            raise InvalidUse(f"{path} is not a file", hint=_form(path))
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise NotAllowed(
                f"{path} can be read by others",
                cause=f"it holds a password, and its mode is {mode:04o}",
                hint=f"chmod 600 {path}   (and change the password if others have accounts on this machine)",
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotAllowed(f"{path} cannot be read", cause=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise InvalidUse(f"{path} is not a text file", cause="it is not valid UTF-8", hint=_form(path)) from error
    return _from_mapping(path, _parse(path, text))


def _parse(path: Path, text: str) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        # The text around the mark may be the password: only the parser's own words are told.
        raise InvalidUse(f"{where}: not valid YAML", cause=error.problem or "", hint=_form(path)) from None
    except yaml.YAMLError:
        raise InvalidUse(
            f"{path}: not valid YAML", cause="it holds characters that YAML forbids", hint=_form(path)
        ) from None
    if value is None:
        raise NotAllowed(f"{path} is empty", hint=_form(path))
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidUse(f"{path}: must be a mapping of names to values", hint=_form(path))
    return value


def _form(path: Path) -> str:
    return f"{path} should read `username: LOGIN` and, on the next line, `password: 'SECRET'`"


def _from_mapping(path: Path, value: dict[str, Any]) -> Credentials:
    for key in sorted(set(value) - _KEYS):
        log.warning("%s: unknown key %r is ignored", path, key)

    def text(key: str) -> str | None:
        item = value.get(key)
        if item is None or isinstance(item, str):
            return item or None
        raise InvalidUse(
            f"{path}: {key} must be a text", cause=f"YAML reads it as {type(item).__name__}", hint="put it into quotes"
        )

    uri = (text("uri") or DEFAULT_URI).rstrip("/")
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidUse(f"{path}: uri must be an http or https URL", cause=f"it is {uri!r}")
    timeout = value.get("timeout")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
        raise InvalidUse(f"{path}: timeout must be a number of seconds above 0")
    verify = value.get("verify_ssl")
    if verify is not None and not isinstance(verify, bool | str):
        raise InvalidUse(f"{path}: verify_ssl must be true, false or the path of a CA bundle")
    known = Credentials(
        uri,
        text("username"),
        text("password"),
        _existing(path, "verify_ssl", verify) if isinstance(verify, str) else verify,
        _certificate(path, "sslcert", text("sslcert")),
        _certificate(path, "sslkey", text("sslkey")),
        text("ssluser") or text("username"),
        float(timeout) if timeout is not None else 30.0,
        str(path),
    )
    if known.sslcert and not known.ssluser:
        raise InvalidUse(
            f"{path}: sslcert needs ssluser too", hint="name the user that requests are made for, with `ssluser:`"
        )
    return known


def _certificate(path: Path, key: str, value: str | None) -> str | None:
    if value is None:
        return None
    return _existing(path, key, value)


def _existing(path: Path, key: str, value: str) -> str:
    file = Path(value).expanduser()
    if not file.exists():
        raise NotAllowed(f"{path}: {key} names a file that is not there", cause=str(file))
    return str(file)


def _with_environment(known: Credentials, environ: Mapping[str, str]) -> Credentials:
    if username := environ.get("G5KDEPLOY_USERNAME"):
        same = known.username == username
        known = replace(
            known, username=username, password=known.password if same else None, origin="G5KDEPLOY_USERNAME"
        )
    if password := environ.get("G5KDEPLOY_PASSWORD"):
        known = replace(known, password=password, origin="G5KDEPLOY_PASSWORD")
    elif command := environ.get("G5KDEPLOY_PASSWORD_COMMAND"):
        known = replace(known, password=_ask(command), origin="G5KDEPLOY_PASSWORD_COMMAND")
    return known


def _ask(command: str) -> str:
    deadline = Deadline.after(_PASSWORD_COMMAND_SECONDS, "the command in G5KDEPLOY_PASSWORD_COMMAND")
    try:
        done = process.run(["sh", "-c", command], deadline)
    except Problem as problem:
        raise NotAllowed("the command in G5KDEPLOY_PASSWORD_COMMAND gave no password", cause=str(problem)) from problem
    if not (lines := done.stdout.splitlines()) or not lines[0]:
        raise NotAllowed("the command in G5KDEPLOY_PASSWORD_COMMAND printed nothing", hint="its first line is taken")
    return lines[0]
