"""The application: the proxy's part (who asks, under which version), routes, and one way out for every answer."""

from __future__ import annotations

import base64
import email.utils
import io
import logging
import re
import time
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import FileWrapper

from g5kdeploy.lab.api import cors
from g5kdeploy.lab.api.answer import Answer, File, Headers, failure, finish, line, request_id
from g5kdeploy.lab.api.call import ESCAPED, NOBODY, BadParameters, Call, HttpError
from g5kdeploy.lab.api.negotiation import VERBS, BadAccept, bare, formats, require_type
from g5kdeploy.lab.api.routes import PARAMETERS_FIRST, find
from g5kdeploy.lab.services import SiteServices

log = logging.getLogger(__name__)

VERSIONS = {"3.0": "3.0", "stable": "stable", "sid": "sid", "4.0": "sid"}
REALM = "Grid'5000 API"
UNAUTHORIZED = """<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">
<html><head>
<title>401 Unauthorized</title>
</head><body>
<h1>Unauthorized</h1>
<p>This server could not verify that you
are authorized to access the document
requested.  Either you supplied the wrong
credentials (e.g., bad password), or your
browser doesn't understand how to supply
the credentials required.</p>
</body></html>
"""
NOT_FOUND = """<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">
<html><head>
<title>404 Not Found</title>
</head><body>
<h1>Not Found</h1>
<p>The requested URL was not found on this server.</p>
</body></html>
"""
HTML = "text/html; charset=iso-8859-1"

FILES = {"/robots.txt": "text/plain", "/favicon.ico": "image/vnd.microsoft.icon"}
PUBLIC_FILES = "/opt/g5k-api/app/public"
"""Where the package of the API server puts them."""

StartResponse = Callable[[str, Headers], Any]
Wsgi = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


def make_app(services: SiteServices) -> Wsgi:
    """The WSGI application that serves the API of these services under /3.0, /stable and /sid.

    With `services.trust_proxy` it is the API server behind the proxy: no version in the path, no password.
    """

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        status, headers, body = respond(services, environ)
        start_response(line(status), headers)
        if environ["REQUEST_METHOD"] == "HEAD" or not body:
            return []
        return FileWrapper(body.path.open("rb")) if isinstance(body, File) else [body]

    return app


def respond(services: SiteServices, environ: dict[str, Any]) -> tuple[int, Headers, bytes | File]:
    """Status, headers and body for a request."""
    began = time.monotonic()
    try:
        environ["wsgi.input"] = io.BytesIO(sent(environ))  # all of it, also what nobody asks for: a request follows
    except ValueError:
        return 400, [("Content-Type", HTML), ("Content-Length", "0"), ("Connection", "close")], b""
    if preflight := cors.preflight(environ):
        return preflight
    call = behind_the_proxy(services, environ) if services.trust_proxy else through_the_proxy(services, environ)
    if not isinstance(call, Call):
        return call
    status, headers, body = answer(call, began)
    return status, cors.shared(environ, headers), body


def sent(environ: dict[str, Any]) -> bytes:
    """The body of a request; raises `ValueError` for one that breaks off, or whose length is none."""
    stream = environ["wsgi.input"]
    if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked":
        return bytes(stream.read())
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = bytes(stream.read(length)) if length else b""
    if len(body) != length:
        raise ValueError("the body breaks off")
    return body


def _call(services: SiteServices, environ: dict[str, Any], path: str, user: str | None, version: str) -> Call:
    headers = {name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers["content-type"] = environ.get("CONTENT_TYPE", "") or ""
    raw = environ["wsgi.input"].read()
    host = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME')}:{environ.get('SERVER_PORT')}"
    base = services.public_url or f"{environ.get('wsgi.url_scheme', 'http')}://{host}"
    return Call(
        services, environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), headers, raw, user, version, base
    )


def path_of(environ: dict[str, Any]) -> str:
    """The path, decoded, with single slashes and without one at its end; what was escaped of `ESCAPED` stands in."""
    raw = str(environ.get("REQUEST_URI") or "").partition("?")[0]
    if re.search("%2[ef]|%[0-9a-f]?[g-z]", raw, re.IGNORECASE):
        raw = re.sub("%([0-9a-zA-Z]{2})", _escape, raw)
        for character, stand_in in ESCAPED.items():
            raw = re.sub(f"%{ord(character):x}", urllib.parse.quote(stand_in), raw, flags=re.IGNORECASE)
        text = urllib.parse.unquote(raw, errors="surrogateescape")
    else:
        text = str(environ.get("PATH_INFO", "")).encode("latin-1").decode(errors="surrogateescape")
    return "/" + re.sub("/+", "/", text).strip("/")


def _escape(found: re.Match[str]) -> str:
    """An escape of two letters or digits as Rails reads it: as far as they are hexadecimal digits."""
    digits = re.match("[0-9a-fA-F]*", found[1])
    return f"%{int(digits[0] or '0', 16) if digits else 0:02X}"


def behind_the_proxy(services: SiteServices, environ: dict[str, Any]) -> Call:
    """The request as the API server gets it: user and version in headers."""
    name = environ.get("HTTP_X_API_USER_CN")
    user = None if name is None or name in NOBODY else name.lower()
    version = environ.get("HTTP_X_API_VERSION", "").strip()
    call = _call(services, environ, path_of(environ), user, version)
    call.prefixes = (
        environ.get("HTTP_X_API_ROOT_PATH", ""),
        environ.get("HTTP_X_API_PATH_PREFIX", ""),
        environ.get("HTTP_X_API_MOUNT_PATH", ""),
    )
    return call


def through_the_proxy(services: SiteServices, environ: dict[str, Any]) -> Call | tuple[int, Headers, bytes]:
    """What the proxy does with a request from outside: a password for everything, a version in front of the path."""
    user = basic_user(services, environ.get("HTTP_AUTHORIZATION", ""))
    if user is None:
        body = UNAUTHORIZED.encode()
        challenge = ("WWW-Authenticate", f'Basic realm="{REALM}"')
        return 401, [challenge, ("Content-Type", HTML), ("Content-Length", str(len(body)))], body
    first, _, rest = path_of(environ)[1:].partition("/")
    if first not in VERSIONS:
        body = NOT_FOUND.encode()
        return 404, [("Content-Type", HTML), ("Content-Length", str(len(body)))], body
    return _call(services, environ, f"/{rest}", user, first)


def basic_user(services: SiteServices, header: str) -> str | None:
    """The user whom HTTP Basic names, when the password is his."""
    kind, _, credentials = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:  # binascii's too
        return None
    return name if services.accounts.check(name, password) else None


def answer(call: Call, began: float) -> tuple[int, Headers, bytes | File]:
    """Find the handler and let it answer; whatever goes wrong becomes a status and a text."""
    if call.path in FILES and call.method in ("GET", "HEAD"):
        return _file(call)
    try:
        given = [call.query, call.form]
    except BadParameters:
        return _bare(call, 400, "Bad Request")
    except ValueError:  # parts that are none
        return _bare(call, 500, "Internal Server Error")
    if call.method not in VERBS:
        return _bare(call, 405, "Method Not Allowed")
    try:
        handler, parts, call.format = find(call.method, call.path, call.services.trust_proxy)
    except HTTPException:
        return _bare(call, 404, "Not Found")
    if not encoded([*given, parts, call.format, body_of(call)]):
        return _bare(call, 400, "Bad Request")
    call.format = asked_format(call, call.format)
    try:
        if call.headers["content-type"]:
            require_type(call.content_type)
        call.formats = formats(call.headers.get("accept", ""), call.format, script=call.by_script)
    except BadAccept:
        return 406, [("Content-Type", "text/html; charset=utf-8"), ("Vary", "Origin"), ("Content-Length", "0")], b""
    try:
        if handler.__module__ in PARAMETERS_FIRST:
            call.params  # noqa: B018 - whether they can be read
        found: Answer = handler(call, **parts)
        if isinstance(found, File):
            size = found.path.stat().st_size
            return 200, [("Content-Type", found.type), ("Content-Length", str(size))], found
        return finish(call, found, began)
    except HttpError as error:
        return failure(call, error, began)
    except ValueError as error:  # a body that cannot be parsed
        return failure(call, HttpError(500, str(error)), began)
    except Exception as error:
        log.exception("the answer to %s %s failed", call.method, call.path)
        return failure(call, HttpError(500, str(error) or "Internal Server Error"), began)


def asked_format(call: Call, suffix: str | None = None) -> str | None:
    """What the path's suffix, or else a parameter, says of the answer's type; nothing where these cannot be read."""
    try:
        asked = call.params.get("format") if suffix is None else suffix
        return None if asked is None or not encoded([call.params]) else str(asked)
    except (BadParameters, ValueError):
        return None


def body_of(call: Call) -> Any:
    """The value of the body; nothing where it cannot be parsed, which a handler tells."""
    try:
        return call.body
    except ValueError:
        return None


def encoded(value: Any) -> bool:
    """Are all texts of a parameter in UTF-8?"""
    if isinstance(value, list):
        return all(map(encoded, value))
    if isinstance(value, dict):
        return all(map(encoded, (*value.keys(), *value.values())))
    return not isinstance(value, str) or not re.search("[\ud800-\udfff]", value)


def _file(call: Call) -> tuple[int, Headers, bytes]:
    """A file of the server's own: empty here as there, where the server in front is told to send it."""
    modified = email.utils.formatdate(call.services.reference.installed_at, usegmt=True)
    headers = [("Last-Modified", modified), ("Content-Type", FILES[call.path])]
    if call.method == "GET":
        headers.append(("X-Sendfile", f"{PUBLIC_FILES}{call.path}"))
    headers += [("Vary", "Origin"), ("Content-Length", "0")]
    return 200, headers, b""


def _bare(call: Call, status: int, error: str) -> tuple[int, Headers, bytes]:
    accept = call.headers.get("accept", "")
    kind, body = bare(status, error, accept, call.path, asked_format(call), call.by_script)
    data = body.encode()
    headers = [("Content-Type", kind), ("X-Request-Id", request_id()), ("X-Runtime", "0.000500"), ("Vary", "Origin")]
    return status, [*headers, ("Content-Length", str(len(data)))], data
