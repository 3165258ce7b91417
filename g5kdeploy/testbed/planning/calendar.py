"""Working hours as the usage policy counts them: Monday to Friday 9:00 to 19:00 in Paris, French holidays excepted."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterator

from g5kdeploy.testbed.request import paris_zone

MORNING, EVENING = 9, 19
_DAY = dt.timedelta(days=1)


def day_of(moment: float) -> dt.date:
    """The day in Paris."""
    return dt.datetime.fromtimestamp(moment, paris_zone()).date()


def clock(day: dt.date, hour: int) -> float:
    """The unix time of an hour of a day in Paris."""
    return dt.datetime(day.year, day.month, day.day, hour, tzinfo=paris_zone()).timestamp()


def days(begin: float, end: float) -> Iterator[dt.date]:
    """The days in Paris that a span touches."""
    day, last = day_of(begin), day_of(end)
    while day <= last:
        yield day
        day += _DAY


@functools.lru_cache(maxsize=32)
def _holidays(year: int) -> dict[dt.date, str]:
    import holidays

    return dict(holidays.country_holidays("FR", years=year, language="fr"))


def holiday(day: dt.date) -> str:
    """The name of the French public holiday that a day is, "" when it is none."""
    return _holidays(day.year).get(day, "")


def works(day: dt.date) -> bool:
    """Whether a day has working hours."""
    return day.weekday() < 5 and not holiday(day)


def working(begin: float, end: float) -> dict[dt.date, float]:
    """Seconds of a span within the working hours of each day; days without any are left out."""
    found = {}
    for day in days(begin, end):
        if works(day):
            seconds = min(end, clock(day, EVENING)) - max(begin, clock(day, MORNING))
            if seconds > 0:
                found[day] = seconds
    return found


def crossed(begin: float, end: float) -> list[tuple[dt.date, int]]:
    """The beginnings and ends of working hours that lie within a span: day and hour."""
    found = []
    for day in days(begin, end):
        if works(day):
            found += [(day, hour) for hour in (MORNING, EVENING) if begin < clock(day, hour) < end]
    return found


def quiet(now: float) -> Iterator[tuple[float, float]]:
    """The spans without working hours, from the one that lasts or comes next; they do not end before `now`."""
    day = day_of(now) - _DAY
    while not works(day):
        day -= _DAY
    while True:
        following = day + _DAY
        while not works(following):
            following += _DAY
        if clock(following, MORNING) > now:
            yield clock(day, EVENING), clock(following, MORNING)
        day = following


def nights(now: float) -> Iterator[tuple[float, float]]:
    """The nights, 19:00 to 9:00, from the one that lasts or comes next."""
    day = day_of(now) - _DAY
    while True:
        if clock(day + _DAY, MORNING) > now:
            yield clock(day, EVENING), clock(day + _DAY, MORNING)
        day += _DAY


def weekends(now: float) -> Iterator[tuple[float, float]]:
    """The quiet spans with a Saturday in them, from the one that lasts or comes next."""
    for begin, end in quiet(now):
        if any(day.weekday() == 5 for day in days(begin, end)):
            yield begin, end
