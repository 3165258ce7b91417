"""The hours of jobs of type `day` and `night`: working hours are Monday to Friday, 9:00 to 19:00 in Paris."""

from __future__ import annotations

import datetime as dt
import itertools

from g5kdeploy.lab.oar import text

MORNING, EVENING = dt.time(9), dt.time(19)
KINDS = ("day", "night")


def _windows(moment: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(start, end) of the days, and of the nights between them, around a moment: a week back, two ahead."""
    today = dt.datetime.fromtimestamp(moment, text.PARIS).date()
    days = []
    for offset in range(-7, 15):
        date = today + dt.timedelta(days=offset)
        if date.weekday() < 5:
            begin, end = (int(dt.datetime.combine(date, at, text.PARIS).timestamp()) for at in (MORNING, EVENING))
            days.append((begin, end))
    nights = [(evening, morning) for (_, evening), (morning, _) in itertools.pairwise(days)]
    return days, nights


def fitting(kind: str, moment: int, seconds: int) -> int | None:
    """The first second, not before `moment`, from which so many seconds lie in one day or night; None for never."""
    days, nights = _windows(moment)
    for begin, end in days if kind == "day" else nights:
        start = max(begin, moment)
        if start + seconds <= end:
            return start
    return None
