"""How OAR writes durations, dates and messages. Dates are local time of the testbed: Europe/Paris."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from zoneinfo import ZoneInfo

PARIS = ZoneInfo("Europe/Paris")

_DATE = re.compile(r"^\s*(\d{4})-(0?[0-9]|1[0-2])-(0?[1-9]|[12][0-9]|3[01])\s+(\S+)\s*$")
_TIME = re.compile(r"^\s*(0?[0-9]|1[0-9]|2[0-3])(?::(0?[0-9]|[1-5][0-9])(?::(0?[0-9]|[1-5][0-9]))?)?\s*$")


def duration(seconds: int) -> str:
    """`1:0:0` for 3600. A negative one comes out as it does there: -600 is `0:50:0`."""
    return f"{int(seconds / 3600)}:{seconds % 3600 // 60}:{seconds % 60}"


def signed(seconds: int) -> str:
    """`+0:5:0`, `-0:5:0`, `0:0:0`."""
    sign = "+" if seconds > 0 else "-" if seconds < 0 else ""
    return sign + duration(abs(seconds))


def date(moment: float) -> str:
    """`2026-11-22 17:33:53`."""
    return dt.datetime.fromtimestamp(int(moment), PARIS).strftime("%Y-%m-%d %H:%M:%S")


def parse_date(text: str, now: float) -> int | None:
    """Unix time of `2026-11-22 19:00:00`, `2026-11-22 19`, or of a time alone (today's); None when it is neither."""
    today = dt.datetime.fromtimestamp(now, PARIS).date()
    if match := _DATE.match(text):
        year, month, day, clock = int(match[1]), int(match[2]), int(match[3]), match[4]
        try:
            today = dt.date(year, month, day)
        except ValueError:
            return None
    else:
        clock = text
    if not (match := _TIME.match(clock)):
        return None
    hour, minute, second = (int(part or 0) for part in match.groups())
    return int(dt.datetime.combine(today, dt.time(hour, minute, second), PARIS).timestamp())


def moment(text: str) -> int:
    """Unix time of `2026-11-22`, `2026-11-22 19:00` or `2026-11-22 19:00:00`; what is too much goes on (month 13, day 32)."""
    found = [int(part) for part in re.findall(r"\d+", text)] + [0] * 6
    year, month, day, hour, minute, second = found[:6]
    first = dt.datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)  # noqa: DTZ001 - the time zone comes below
    whole = first + dt.timedelta(days=day - 1, hours=hour, minutes=minute, seconds=second)
    return int(whole.replace(tzinfo=PARIS).timestamp())


def estimate(
    resources: int, walltime: int, mode: str, name: str | None, queue: str, project: str, types: Iterable[str]
) -> str:
    """The message of a fresh job: `R=4,W=0:5:0,J=B,N=t1,P=p1,T=deploy`. `mode` is B (batch) or R (reservation)."""
    parts = [f"R={resources}", f"W={duration(walltime)}", f"J={mode}"]
    if name:
        parts.append(f"N={name}")
    if queue not in ("default", "besteffort"):
        parts.append(f"Q={queue}")
    if project != "default":
        parts.append(f"P={project}")
    if types := "|".join(types):
        parts.append(f"T={types}")
    return ",".join(parts)
