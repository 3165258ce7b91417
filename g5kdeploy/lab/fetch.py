"""Reads a URL as the API server does for environment descriptions and keys, with its words when that fails."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path

SECONDS = 10


def over_http(url: str) -> bytes:
    """The body behind an http or https URL, whatever its status; raises `OSError` with Ruby's text of the trouble."""
    import http.client
    import socket

    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if not host:
        raise OSError("ArgumentError, no host component for URI")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=SECONDS)
    opening = f"Failed to open TCP connection to {host}:{port}"
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        return connection.getresponse().read()
    except socket.gaierror as error:
        raise OSError(f"SocketError, {opening} (getaddrinfo: Name or service not known)") from error
    except ConnectionRefusedError as error:
        refused = f'Connection refused - connect(2) for "{host}" port {port}'
        raise OSError(f"Errno::ECONNREFUSED, {opening} ({refused})") from error
    except TimeoutError as error:
        raise OSError("Net::ReadTimeout, Net::ReadTimeout") from error
    except http.client.HTTPException as error:
        raise OSError(f"Net::HTTPBadResponse, {error}") from error
    finally:
        connection.close()


def from_homes(homes: Mapping[str, Path]) -> Callable[[str], bytes]:
    """A reader for which http://public.SITE.grid5000.fr/~USER/x is the file HOME/public/x; the rest goes over HTTP.

    `homes`: where those of each site are.
    """
    known = {
        name: folder for site, folder in homes.items() for name in (f"public.{site}.grid5000.fr", f"public.{site}")
    }

    def fetch(url: str) -> bytes:
        parts = urllib.parse.urlsplit(url)
        user, _, path = parts.path.removeprefix("/~").partition("/")
        if parts.hostname not in known or not parts.path.startswith("/~"):
            return over_http(url)
        file = public_file(known[parts.hostname], user, urllib.parse.unquote(path))
        return file.read_bytes() if file is not None and file.is_file() else b"<html>404 Not Found</html>"

    return fetch


def public_file(homes: Path, user: str, path: str) -> Path | None:
    """The file or folder of a user's `public` that a path means; None for what leads out of his home."""
    home = (homes / user).resolve()
    if home.parent != homes.resolve() or not (home / "public").is_dir():
        return None
    wanted = home / "public" / path
    inside = ".." not in Path(path).parts and wanted.resolve().is_relative_to(home)
    return wanted if inside else None
