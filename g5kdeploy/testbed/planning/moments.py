"""The words for when to start: `now`, `earliest`, a moment, `night`, `weekend`; and the window that each means."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass

from g5kdeploy.base.text import human_seconds
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed.planning import calendar

WORDS = ("now", "earliest", "night", "weekend")
_FORMS = ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
_YEARS = 1971, 9000  # not so near the ends of the calendar that a zone leads beyond them
_AHEAD = 15  # nights or weekends to look ahead for one that the walltime fits into


@dataclass(frozen=True)
class Window:
    """A start may lie from `first` to `last`, both included, unix time; `word` is what was said."""

    word: str
    first: float
    last: float = math.inf


def window(text: str, walltime: int, now: float) -> Window:
    """What `--at` says, as a window of starts; a job of a night or weekend fits into it with its whole walltime.

    A moment is one in the user's own zone. Raises `InvalidUse` for other words, moments that are over or that the clock
    leaves out, and a walltime that is longer than a night or weekend.
    """
    word = text.strip().lower()
    if word == "now":
        return Window(word, now, now)
    if word == "earliest":
        return Window(word, now)
    if word == "night":
        return _within(word, calendar.nights(now), walltime, now)
    if word == "weekend":
        return _within(word, calendar.weekends(now), walltime, now)
    moment = _moment(text.strip())
    if moment < now:
        raise InvalidUse(f"--at: {text} is over", hint="a moment to come, or now, earliest, night, weekend")
    return Window(text.strip(), moment, moment)


def _within(word: str, spans: Iterator[tuple[float, float]], walltime: int, now: float) -> Window:
    longest = 0.0
    for _, (begin, end) in zip(range(_AHEAD), spans, strict=False):
        first = max(begin, now)
        longest = max(longest, end - first)
        if first + walltime <= end:
            return Window(word, first, end - walltime)
    raise InvalidUse(
        f"a walltime of {human_seconds(walltime)} does not fit into a {word}",
        cause=f"the longest of those that come next lasts {human_seconds(longest)}",
        hint="a shorter --walltime" + (", or --at weekend" if word == "night" else ""),
    )


def _moment(text: str) -> float:
    for form in _FORMS:
        try:
            naive = dt.datetime.strptime(text, form)  # noqa: DTZ007 -- the user's own zone is what is meant
        except ValueError:
            continue
        if not _YEARS[0] <= naive.year <= _YEARS[1]:
            break
        moment = naive.timestamp()
        if dt.datetime.fromtimestamp(moment) != naive:  # noqa: DTZ006
            raise InvalidUse(f"--at: there is no {text} here", cause="the clocks are put forward over that hour")
        return moment
    raise InvalidUse(
        f"--at: {text!r} is no time to start", hint="now, earliest, night, weekend or a moment such as 2026-11-27 19:00"
    )
