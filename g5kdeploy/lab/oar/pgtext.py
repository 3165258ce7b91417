"""What PostgreSQL says of a bad filter, down to the excerpt and the caret: clients show these texts to their users."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection

_WIDTH, _MIN_RIGHT = 60, 10
_PLACE = " at /usr/lib/oar/OAR/IO.pm line 1360.\n"
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>'(?:[^']|'')*')|(?P<open>'[^']*$)|(?P<quoted>"[^"]*")|(?P<word>[A-Za-z_][\w$]*)"""
    r"""|(?P<number>\d+(?:\.\d+)?)|(?P<operator><=|>=|<>|!=|==|\|\||!~\*?|~\*?|.))""",
    re.DOTALL,
)
_KEYWORDS = (
    "and or not in is null like ilike between exists case when then else end cast as select from where true false "
    "escape collate distinct similar to any all isnull notnull glob regexp match order by limit group having"
)
KEYWORDS = frozenset(_KEYWORDS.split())


class BadFilter(Exception):
    """A filter that the database rejects; `text` is the driver's error, `short` the part that oarsub repeats."""

    def __init__(self, error: str, query: str, at: int | None) -> None:
        where = excerpt(query, at) if at is not None else ""
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


def unknown_column(query: str, start: int, columns: Collection[str]) -> tuple[str, int] | None:
    """The first name after position `start` that is neither a column, a keyword nor a function, and where it stands."""
    found = [token for token in tokens(query) if token[2] >= start]
    for index, (kind, text, at) in enumerate(found):
        name = text.strip('"') if kind == "quoted" else text.lower()
        call = index + 1 < len(found) and found[index + 1][1] == "("
        known = name in columns or (kind == "word" and (name in KEYWORDS or call))
        if kind in ("word", "quoted") and not known:
            return name, at
    return None


def bad_token(query: str, prepare: Callable[[str], None]) -> BadFilter:
    """Find where the syntax breaks: the first token with which the text cannot be the beginning of anything.

    prepare: compiles a query and raises `sqlite3.Error` when it cannot.
    """
    for kind, text, at in tokens(query):
        if kind == "open":
            return BadFilter(f'unterminated quoted string at or near "{text}"', query, at)
        try:
            prepare(query[: at + len(text)])
        except sqlite3.Error as error:
            if str(error).startswith("near "):
                return BadFilter(f'syntax error at or near "{text}"', query, at)
    return BadFilter("syntax error at end of input", query, len(query))
