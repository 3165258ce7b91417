"""The file of --web.config.file, in the form that all Prometheus exporters share: TLS, client certificates, passwords.

It is read again when it or a certificate changes, so that a renewed certificate needs no restart.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import tls
from .document import Mistakes, Part, read
from .durations import duration
from .passwords import HASH, Passwords, hasher

log = logging.getLogger(__name__)

_HEADERS: dict[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}


@dataclass(frozen=True)
class WebConfig:
    """What the file says. Without a file: no TLS, no passwords, no headers, no limit."""

    context: Any = None
    """An ssl.SSLContext; None for plain HTTP."""
    allowed_sans: frozenset[str] = frozenset()
    users: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    interval: float = 0.0
    """Seconds between two requests; 0 for no limit."""
    burst: int = 0
    files: tuple[Path, ...] = ()


def read_web_config(file: Path, mistakes: Mistakes) -> WebConfig:
    """Whatever is wrong is added to the mistakes."""
    document = read(file, mistakes, may_be_empty=True)
    if document is None:
        return WebConfig(files=(file,))
    known = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
    found = document.fields("the web configuration", dict.fromkeys(known, False))
    made = tls.read_tls(found["tls_server_config"], file.parent) if "tls_server_config" in found else tls.Tls()
    users = _users(found["basic_auth_users"]) if "basic_auth_users" in found else {}
    headers = _http(found["http_server_config"]) if "http_server_config" in found else {}
    interval, burst = _limit(found["rate_limit"]) if "rate_limit" in found else (0.0, 0)
    return WebConfig(made.context, made.allowed_sans, users, headers, interval, burst, (file, *made.files))


def _users(part: Part) -> dict[str, str]:
    users = {}
    for name, entry in part.entries("basic_auth_users").items():
        hashed = entry.value(f"the hash of {name}", str)
        if hashed is None:
            continue
        if not name or ":" in name:
            entry.wrong(f"{name!r} cannot be the name of a user")
        if not HASH.fullmatch(hashed):
            entry.wrong(f"the password of {name} must be a bcrypt hash, as `htpasswd -nB {name}` makes them")
        users[name] = hashed
    if users and hasher() is None:
        part.wrong("bcrypt hashes need libxcrypt's libcrypt.so.1, or the package python3-bcrypt")
    return users


def _http(part: Part) -> dict[str, str]:
    found = part.fields("http_server_config", {"http2": False, "headers": False})
    if "http2" in found:  # offered to a client, never forced on it: HTTP/1.1 serves in both cases
        found["http2"].value("http2", bool)
    headers = {}
    for name, entry in (found["headers"].entries("headers") if "headers" in found else {}).items():
        value = entry.value(name, str)
        if name not in _HEADERS:
            entry.wrong(f"header {name} cannot be configured; these can: {', '.join(_HEADERS)}")
        elif value is not None and _HEADERS[name] and value not in _HEADERS[name]:
            entry.wrong(f"{name} must be {' or '.join(_HEADERS[name])}")
        elif value is not None and (not value.isascii() or not value.isprintable()):
            entry.wrong(f"{name} must be one line of ASCII")
        headers[name] = value or ""
    return {name: value for name, value in headers.items() if value}


def _limit(part: Part) -> tuple[float, int]:
    found = part.fields("rate_limit", {"interval": True, "burst": False})
    text = found["interval"].value("interval", str) if "interval" in found else None
    burst = found["burst"].value("burst", int) if "burst" in found else 1
    if burst is not None and burst < 1:
        found["burst"].wrong("burst must be 1 or more: with less nothing would ever be answered")
    try:
        return (duration(text) if text is not None else 0.0), burst or 1
    except ValueError as problem:
        found["interval"].wrong(str(problem))
        return 0.0, 1


class Web:
    """The configuration in force, read anew when a file of it changes; the last good one stays if the new one is not."""

    def __init__(self, file: Path | None, config: WebConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._config = config
        self._clock = clock
        self._stamps = _stamps(config.files)
        self._lock = threading.Lock()
        self._tokens = float(config.burst)
        self._counted = clock()
        self.passwords = Passwords()

    def current(self) -> WebConfig:
        if self._file is None:
            return self._config
        with self._lock:
            stamps = _stamps(self._config.files)
            if stamps != self._stamps:
                self._stamps = stamps
                self._reread(self._file)
            return self._config

    def _reread(self, file: Path) -> None:
        mistakes = Mistakes()
        config = read_web_config(file, mistakes)
        if mistakes:
            log.error("the web configuration changed and is wrong, the old one stays: %s", "; ".join(mistakes.found))
            return
        log.info("the web configuration changed and was read again")
        self._config = config
        self._stamps = _stamps(config.files)

    def in_rate(self) -> bool:
        """Whether one more request is within the limit; it then counts as made (a token bucket)."""
        config = self.current()
        if not config.interval:
            return True
        with self._lock:
            now = self._clock()
            self._tokens = min(float(config.burst), self._tokens + (now - self._counted) / config.interval)
            self._counted = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


def _stamps(files: tuple[Path, ...]) -> tuple[tuple[int, ...], ...]:
    """What differs once a file is written or replaced."""
    found: list[tuple[int, ...]] = []
    for file in files:
        try:
            told = file.stat()
            found.append((told.st_ino, told.st_size, told.st_mtime_ns))
        except OSError:
            found.append(())
    return tuple(found)
