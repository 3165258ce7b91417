"""What PostgreSQL says of a bad filter, down to the excerpt and the caret: clients show these texts to their users."""

from __future__ import annotations

import re

_WIDTH, _MIN_RIGHT = 60, 10
_PLACE = " at /usr/lib/oar/OAR/IO.pm line 1360.\n"
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>'(?:[^']|'')*')|(?P<open>'[^']*$)|(?P<quoted>"[^"]*")|(?P<word>[A-Za-z_][\w$]*)"""
    r"""|(?P<number>\d+(?:\.\d+)?)|(?P<operator><=|>=|<>|!=|==|\|\||!~\*?|~\*?|.))""",
    re.DOTALL,
)


class BadFilter(Exception):
    """A filter that the database rejects; `text` is the driver's error, `short` the part that oarsub repeats."""

    def __init__(self, error: str, query: str, at: int | None, hint: str = "") -> None:
        where = (excerpt(query, at) if at is not None else "") + (f"\nHINT:  {hint}" if hint else "")
        self.text = f"DBD::Pg::st execute failed: ERROR:  {error}{where}{_PLACE}"
        self.short = f"ERROR:  {error}{where}"[:-1]
        super().__init__(error)


def excerpt(query: str, at: int) -> str:
    """libpq's `LINE n: ...` with the caret under position `at`, cut to 60 columns."""
    line_start = query.rfind("\n", 0, at) + 1
    number = query.count("\n", 0, at) + 1
    line_end = query.find("\n", at)
    line = query[line_start : line_end if line_end >= 0 else len(query)]
    place, begin, end = at - line_start, 0, len(line)
    if end > _WIDTH:
        if place + _MIN_RIGHT <= _WIDTH:
            end = _WIDTH
        else:
            end = min(end, place + _MIN_RIGHT)
            begin = max(0, end - _WIDTH)
    left, right = "..." if begin else "", "..." if end < len(line) else ""
    prefix = f"LINE {number}: {left}"
    return f"\n{prefix}{line[begin:end]}{right}\n{' ' * (len(prefix) + place - begin)}^"


def tokens(sql: str) -> list[tuple[str, str, int]]:
    """(kind, text, position) of each token."""
    found = []
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup
        if kind:
            found.append((kind, match[kind], match.start(kind)))
    return found
