"""Cross-origin requests, as the API server's own filter allows them."""

from __future__ import annotations

import re
from typing import Any

from g5kdeploy.lab.api.answer import Headers

_ORIGINS = re.compile(
    r"http://localhost(:\d+)?|https://(grid5000\.gitlabpages\.inria|public-api-devel\.grid5000"
    r"|public-api\.grid5000|api\.grid5000)\.fr"
)
METHODS = ("GET", "POST")


def headers(environ: dict[str, Any]) -> Headers:
    """The headers that let a page of an allowed origin read the answer."""
    origin = environ.get("HTTP_ORIGIN", "")
    if not _ORIGINS.fullmatch(origin):
        return []
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Methods", ", ".join(METHODS)),
        ("Access-Control-Expose-Headers", ""),
        ("Access-Control-Max-Age", "7200"),
        ("Access-Control-Allow-Credentials", "true"),
    ]


def shared(environ: dict[str, Any], sent: Headers) -> Headers:
    """The headers of an answer, for the page that asked.

    With an allowed origin they are no longer what joins a header's list of values: X-Info comes out as a list.
    """
    added = headers(environ)
    return [(name, f'["{value}"]' if added and name == "X-Info" else value) for name, value in sent] + added


def preflight(environ: dict[str, Any]) -> tuple[int, Headers, bytes] | None:
    """The answer to a preflight request; None for any other request."""
    wanted = environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD")
    if environ["REQUEST_METHOD"] != "OPTIONS" or not environ.get("HTTP_ORIGIN") or not wanted:
        return None
    given = headers(environ) if wanted in METHODS else []
    asked = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS")
    if given and asked:
        given.append(("Access-Control-Allow-Headers", asked))
    return 200, given, b""
