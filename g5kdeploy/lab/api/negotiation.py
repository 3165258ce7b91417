"""Which media type an answer gets, and which words an unknown route gets, as Rails decides both."""

from __future__ import annotations

import re

_NAME = r"[a-zA-Z0-9][a-zA-Z0-9!#$&\-^_.+]{0,126}"
_TYPE = re.compile(rf"^(?:\*/\*|{_NAME}/(?:\*|{_NAME}))(?:\s*;.*)?$")
_LIKE_A_BROWSER = re.compile(r",\s*\*/\*|\*/\*\s*,")
SUFFIXES = {
    "g5kitemjson": "application/vnd.grid5000.item+json",
    "g5kcollectionjson": "application/vnd.grid5000.collection+json",
}
_VERBS = """
OPTIONS GET HEAD POST PUT DELETE TRACE CONNECT PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK VERSION-CONTROL REPORT
CHECKOUT CHECKIN UNCHECKOUT MKWORKSPACE UPDATE LABEL MERGE BASELINE-CONTROL MKACTIVITY ORDERPATCH ACL SEARCH MKCALENDAR
PATCH LINK UNLINK PURGE
"""
VERBS = frozenset(_VERBS.split())
"""The methods that Rails knows; any other is a 405."""


class BadAccept(Exception):
    """The Accept header holds something that is no media type."""


def accepted(header: str) -> list[str]:
    """The media types of an Accept header, best first; empty for none and for a browser's; raises `BadAccept`."""
    if not header.strip() or _LIKE_A_BROWSER.search(header):
        return []
    ranked: list[tuple[float, int, str]] = []
    for at, part in enumerate(header.split(",")):
        text = part.strip()
        if not text:
            continue
        if not _TYPE.match(text):
            raise BadAccept(text)
        quality = re.search(r";\s*q=([0-9.]+)", text)
        ranked.append((-float(quality[1]) if quality else -1.0, at, text.split(";")[0].strip().lower()))
    return [name for _, _, name in sorted(ranked)]


def media_type(header: str, format: str, own: str) -> str:
    """The type of a document whose vendor type is `own`: that one when asked for, application/json otherwise."""
    if format:
        return own if SUFFIXES.get(format) == own else "application/json"
    wanted = accepted(header)
    return own if any(name in (own, "*/*", "application/*") for name in wanted) else "application/json"


def varies(header: str, format: str) -> bool:
    """Did the Accept header have a say in the type?"""
    return not format and bool(header.strip()) and not _LIKE_A_BROWSER.search(header)


def bare(status: int, error: str, header: str, path: str = "", format: str | None = None) -> tuple[str, str]:
    """Type and body for what no route takes: JSON or XML when that is the first choice, else nothing as HTML.

    `format` is the query's, which comes before the header; the path's suffix comes after it.
    """
    suffix = re.search(r"\.(\w+)$", path)
    try:
        if format is not None:
            first = f"application/{format}"
        elif varies(header, ""):
            first = (accepted(header) or [""])[0]
        else:
            first = f"application/{suffix[1]}" if suffix else ""
    except BadAccept:
        first = ""
    if first == "application/json":
        return "application/json; charset=utf-8", f'{{"status":{status},"error":"{error}"}}'
    if first == "application/xml":
        return "application/xml; charset=utf-8", (
            '<?xml version="1.0" encoding="UTF-8"?>\n<hash>\n'
            f'  <status type="integer">{status}</status>\n  <error>{error}</error>\n</hash>\n'
        )
    return "text/html; charset=utf-8", ""
