"""Resource requests, `{sql}/res=N/res=N+{sql}/res=N,walltime=H:M:S`, parsed as OAR does, quirks included."""

from __future__ import annotations

import re
from dataclasses import dataclass

from g5kdeploy.lab.oar.model import Refused
from g5kdeploy.lab.oar.text import parse_date

ALL, BEST, BESTHALF = -1, -2, -3
DEFAULT_REQUEST = "/nodes=1"

_WORDS = {"ALL": ALL, "BEST": BEST, "BESTHALF": BESTHALF}
_NAMES = {value: word for word, value in _WORDS.items()}
_FILTER = re.compile(r"^\s*(?:\++|,+|\s*)\s*\{(.+?)\}(.*)$", re.ASCII)
_RESOURCES = re.compile(r"^\s*(?:\++|,+|\s*)\s*/*([^,+]+)\s*(.*)$", re.ASCII)
_WALLTIME_WORD = re.compile(r"^\s*walltime")
_WALLTIME = re.compile(r"^[\s,]*walltime\s*=\s*([\d|:]+)\s*$", re.ASCII)
_LEVEL = re.compile(r"^\s*(\w+)\s*=\s*(\d+|ALL|BESTHALF|BEST)\s*$", re.ASCII)
_CHANGE = re.compile(r"^([-+]?)(\d+)(?::(\d+)(?::(\d+))?)?$", re.ASCII)

SYNTAX = (
    "# Error: syntax error in <{end} date> for the -r or --reservation option. "
    'It takes a date as argument with the format: "YYYY-MM-DD hh:mm:ss".\n'
)


@dataclass(frozen=True)
class Group:
    """One term of a request: resources that pass `filter` (SQL), counted along `levels`, outermost first."""

    filter: str
    levels: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        levels = "".join(f"/{name}={_NAMES.get(count, count)}" for name, count in self.levels)
        return f"{{{self.filter}}}{levels}" if self.filter else levels


@dataclass(frozen=True)
class Alternative:
    """What is wanted, all of it together, for `walltime` seconds (None until the default is known)."""

    groups: tuple[Group, ...]
    walltime: int | None = None


@dataclass(frozen=True)
class Reservation:
    """When an advance reservation is to start, and end if that was said; unix time."""

    start: int
    end: int | None = None


def parse(text: str) -> Alternative:
    """Parse one `-l` argument. Raises `Refused` (exit 18) with OAR's words."""
    groups: list[Group] = []
    walltime: int | None = None
    rest = text
    while True:
        before, filter_sql = rest, ""
        if match := _FILTER.match(rest):
            filter_sql, rest = match[1], match[2]
        match = _RESOURCES.match(rest)
        if match and not _WALLTIME_WORD.match(match[1]):
            wanted, rest = match[1], match[2]
        else:
            wanted = DEFAULT_REQUEST.lstrip("/")
        levels = tuple(_level(part) for part in _split(wanted))
        if match := _WALLTIME.match(rest):
            walltime, rest = _seconds(match[1]), ""
        if rest == before:
            raise _bad(f"-- {rest} -- resource")
        groups.append(Group(filter_sql, levels))
        if not rest.strip():
            return Alternative(tuple(groups), walltime)


def _split(wanted: str) -> list[str]:
    """Split at slashes the way Perl does: empty fields at the end fall away."""
    parts = wanted.split("/")
    while parts and not parts[-1]:
        parts.pop()
    return parts


def _level(part: str) -> tuple[str, int]:
    match = _LEVEL.match(part)
    if not match:
        raise _bad(f"the resource description: {part}")
    name = "host" if match[1] == "nodes" else match[1]
    return name, _WORDS[match[2]] if match[2] in _WORDS else int(match[2])


def _seconds(text: str) -> int:
    """Seconds of `H[:M[:S]]`; what is not a number counts 0, and what comes after the seconds is ignored."""
    parts = [int(part.partition("|")[0] or 0) for part in text.split(":")[:3]]
    hours, minutes, seconds = (*parts, 0, 0)[:3]
    return hours * 3600 + minutes * 60 + seconds


def _bad(what: str) -> Refused:
    return Refused(400, 18, f"# Error: cannot recognize {what}\n")


def parse_reservation(text: str, now: float) -> Reservation:
    """Parse the `-r` argument: `now`, a date or a time, and after a comma the end. `Refused` (exit 7) otherwise."""
    first, _, last = text.partition(",")
    start = int(now) if first.strip() == "now" else parse_date(first, now)
    if start is None:
        raise Refused(400, 7, SYNTAX.format(end="start"))
    if not last.strip():
        return Reservation(start)
    end = parse_date(last, now)
    if end is None:
        raise Refused(400, 7, SYNTAX.format(end="end"))
    if end <= start and "-" not in last:  # a time alone: it means tomorrow's
        end += 86400
    return Reservation(start, end)


def parse_change(text: str, current: int) -> int | None:
    """Seconds to add to a walltime of `current` seconds for `+0:30`, `-0:10:0` or `2:0:0`; None when it is none."""
    match = _CHANGE.match(text)
    if not match:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[1:])
    asked = hours * 3600 + minutes * 60 + seconds
    return {"+": asked, "-": -asked, "": asked - current}[match[1]]
