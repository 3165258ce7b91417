"""What the database says when a job cannot be inserted: OAR puts its message between quotes as it is, and goes on.

Every statement that follows fails in turn, because the job has no number; clients show all of it to their users.
"""

from __future__ import annotations

import random
import re

from g5kdeploy.lab.oar import pgtext
from g5kdeploy.lab.oar.admission import LATE, Order
from g5kdeploy.lab.oar.store import Entry

WIDEST = {"name": 100, "project": 255}
_NO_NUMBER = (
    "DBD::Pg::st execute failed: ERROR:  current transaction is aborted, commands ignored until end of transaction block"
    " at /usr/lib/oar/OAR/IO.pm line 505.\n"
    "DBD::Pg::st fetchrow_hashref failed: no statement executing at /usr/lib/oar/OAR/IO.pm line 506.\n"
)


def check(order: Order, entry: Entry) -> None:
    """Refuse a job that the database cannot take, with all that OAR prints then."""
    error = _error(entry)
    if error:
        raise order.refuse(8, error + _cascade(entry) + LATE)


def _error(entry: Entry) -> str:
    """What is wrong with the insertion itself; "" when nothing is."""
    before = f"VALUES ('PASSIVE','','Hold','{entry.user}','{entry.command}','{entry.submitted_at}','{entry.queue}',"
    before += f"'{_quoted(entry.properties)}','{entry.directory}','None','0',NULL,0,NULL,NULL,'12','',"
    before += f"'{_quoted(entry.project)}','{_quoted(entry.initial_request)}',0,1,"
    line = f"{before}'{entry.message}')"
    query = f"INSERT INTO jobs\n(columns)\n{line}\n"
    if wrong := _syntax(query, query.index(before) + len(before)):
        return _said(wrong[0], pgtext.excerpt(query, wrong[1]), 1989)
    for value, width in ((entry.name, WIDEST["name"]), (entry.project, WIDEST["project"])):
        if len(value or "") > width:
            return _said(f"value too long for type character varying({width})", "", 1989)
    return ""


def _syntax(query: str, at: int) -> tuple[str, int] | None:
    """The error in what begins with the quote at this place and should end with `')`, and its place."""
    end = re.compile(r"'(?:[^']|'')*'(?!')").match(query, at)
    if end is None:
        return f'unterminated quoted string at or near "{query[at:]}"', at
    if query[end.end() :] == ")\n":
        return None
    for kind, text, place in pgtext.tokens(query[end.end() :]):
        here = end.end() + place
        if kind == "open":
            return f'unterminated quoted string at or near "{query[here:]}"', here
        if text not in (",", "=") and query[end.end() : here].strip() == "":
            return f'syntax error at or near "{text}"', here
    return "syntax error at end of input", len(query)


def _cascade(entry: Entry) -> str:
    """The statements after the insertion, none of which has a number to work with."""
    number = random.randrange(10**12)  # noqa: S311 - it stands in a text
    found = [_NO_NUMBER, _said('syntax error at or near "WHERE"', "\nLINE 3: WHERE\n        ^", 2003)]
    found += [_values(f"'{number}','',''", 2013), _said("syntax error at end of input", "\nLINE 8: \n        ^", 2049)]
    for alternative in entry.alternatives:
        found += [_values(f"'{alternative.walltime}'", 2060), _NO_NUMBER]
        for group in alternative.groups:
            found += [_values(f"'{_quoted(group.filter)}'", 2075), _NO_NUMBER]
            found += [_values(f"'{name}','{count}',{place}", 2087) for place, (name, count) in enumerate(group.levels)]
    found += [_values(f"'{_quoted(kind)}'", 2100) for kind in entry.types]
    found.append(_values(f"'Waiting',{entry.submitted_at}", 2117))
    found.append(_said("syntax error at end of input", "\nLINE 6: \n        ^", 2126))
    return "".join(found)


def _values(rest: str, line: int) -> str:
    mark = f"\nLINE 2: VALUES (,{rest})\n                ^"
    return _said('syntax error at or near ","', mark, line)


def _said(error: str, where: str, line: int) -> str:
    return f"DBD::Pg::db do failed: ERROR:  {error}{where} at /usr/lib/oar/OAR/IO.pm line {line}.\n"


def _quoted(text: str) -> str:
    return text.replace("'", "''")
