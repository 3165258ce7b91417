"""Which media type an answer gets, and which words an unknown route gets, as Rails decides both."""

from __future__ import annotations

import re

_NAME = r"[a-zA-Z0-9][a-zA-Z0-9!#$&\-^_.+]{0,126}"
_VALUE = r'"?[a-zA-Z0-9][a-zA-Z0-9!#$&\-^_.+]{0,126}"?'
_TYPE = re.compile(rf"(?:\*/\*|{_NAME}/(?:\*|{_NAME}))(?:\s*;\s*{_NAME}(?:={_VALUE})?)*\s*")
_LIKE_A_BROWSER = re.compile(r",\s*\*/\*|\*/\*\s*,")
_PARAMETER = re.compile(r';\s*\w+="?\w+"?')
ALL, HTML = "*/*", "text/html"
JSON, XML, YAML = "application/json", "application/xml", "application/x-yaml"
SUFFIXES = {
    "json": JSON,
    "xml": XML,
    "yaml": YAML,
    "yml": YAML,
    "g5kitemjson": "application/vnd.grid5000.item+json",
    "g5kcollectionjson": "application/vnd.grid5000.collection+json",
}
"""Suffixes of paths, and values of the parameter `format`, that make a difference."""
SYNONYMS = {
    "text/x-json": JSON,
    "application/jsonrequest": JSON,
    "text/xml": XML,
    "application/x-xml": XML,
    "text/yaml": YAML,
    "application/xhtml+xml": HTML,
    "application/javascript": "text/javascript",
    "application/x-javascript": "text/javascript",
    "application/x-gzip": "application/gzip",
}
_STARS = {"text/*": (HTML,), "application/*": (HTML, *SUFFIXES.values())}
"""What a star stands for: a page comes first."""
_VERBS = """
OPTIONS GET HEAD POST PUT DELETE TRACE CONNECT PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK VERSION-CONTROL REPORT
CHECKOUT CHECKIN UNCHECKOUT MKWORKSPACE UPDATE LABEL MERGE BASELINE-CONTROL MKACTIVITY ORDERPATCH ACL SEARCH MKCALENDAR
PATCH
"""
VERBS = frozenset(_VERBS.split())
"""The methods that Rails knows; any other is a 405."""


class BadAccept(Exception):
    """The Accept header, or that of the body's type, holds something that is no media type."""


def require_type(name: str) -> None:
    """Raise `BadAccept` for what is no media type."""
    if not _TYPE.fullmatch(name):
        raise BadAccept(name)


def formats(header: str, format: str | None, path: str = "", script: bool = False) -> list[str]:
    """The media types that are wanted, best first.

    `format` is the suffix of the path or the query's parameter: it comes before the header, and the header before a
    suffix that no route took. Raises `BadAccept` where the header counts and is none.
    """
    if format is not None:
        return [SUFFIXES[format]] if format in SUFFIXES else []
    if varies(header, None, script):
        return _accepted(header)
    suffix = re.search(r"\.(\w+)$", path)
    return [SUFFIXES.get(suffix[1], HTML) if suffix else HTML]


def varies(header: str, format: str | None, script: bool = False) -> bool:
    """Did the Accept header have a say in the type? A browser's has none, but that of a `script` in one has."""
    return format is None and bool(header.strip()) and (script or not _LIKE_A_BROWSER.search(header))


def _accepted(header: str) -> list[str]:
    """The media types of an Accept header, best first."""
    ranked: list[tuple[float, int, str]] = []
    parts = header.strip().split(",")
    for part in parts:
        name, *qualities = _PARAMETER.split(part)
        name = name.strip()
        if not name:
            continue
        # the number's first digit goes with the parameter's name: of "q=0.5" it is ".5" that counts
        quality = _number(qualities[0]) if qualities and qualities[0] else 0.0 if name == ALL else 1.0
        ranked += [(-quality, len(ranked) + at, each) for at, each in enumerate(_STARS.get(name, (name,)))]
    found = [name for _, _, name in (sorted(ranked) if len(parts) > 1 else ranked)]
    for name in found:
        require_type(name)
    return [SYNONYMS.get(name, name) for name in found]


def _number(text: str) -> float:
    """A number as Ruby's to_f reads it: what stands in front, 0 when that is none."""
    found = re.match(r"\s*[+-]?\d*\.?\d+", text)
    return float(found[0]) if found else 0.0


def media_type(wanted: list[str], own: str) -> str:
    """The type of a document whose vendor type is `own`: that one when asked for, application/json otherwise."""
    return own if own in wanted or ALL in wanted else JSON


def bare(
    status: int, error: str, header: str, path: str = "", format: str | None = None, script: bool = False
) -> tuple[str, str]:
    """Type and body for what no route takes: as JSON, XML or YAML when that is the first choice, else nothing."""
    try:
        first = (formats(header, format, path, script) or [HTML])[0]
    except BadAccept:
        first = HTML
    if first == JSON:
        body = f'{{"status":{status},"error":"{error}"}}'
    elif first == XML:
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<hash>\n'
            f'  <status type="integer">{status}</status>\n  <error>{error}</error>\n</hash>\n'
        )
    elif first == YAML:
        body = f"---\n:status: {status}\n:error: {error}\n"
    else:
        first, body = HTML, ""
    return f"{first}; charset=utf-8", body
