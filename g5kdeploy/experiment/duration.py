"""Durations as researchers write them: seconds, OAR's hours:minutes:seconds, or numbers with units."""

from __future__ import annotations

import re

_CLOCK = re.compile(r"(\d+):([0-5]?\d)(?::([0-5]?\d))?")
_HOURS_RATHER = 60
_UNITS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?")

PATTERN = r"^(\d+:[0-5]?\d(:[0-5]?\d)?|(\d+d)?(\d+h)?(\d+m(in)?)?(\d+s)?)$"
"""What the schema says of a duration that is text."""


def seconds_of(value: object) -> int:
    """Whole seconds, at least 1, of 3600, "1:00:00", "1:30" (hours and minutes, as OAR has it), "1h30m", "90s".

    Raises `ValueError` with a sentence for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("must be a duration: seconds, H:MM:SS, or like 1h30m")
    seconds = value if isinstance(value, int) else _parse(value.strip())
    if seconds <= 0:
        raise ValueError("must be longer than nothing")
    if seconds > 365 * 86400:
        raise ValueError("must be less than a year")
    return seconds


def walltime_of(value: object) -> int:
    """The same of a walltime. A bare number that is small is refused: OAR would read it as hours."""
    seconds = seconds_of(value)
    if seconds < _HOURS_RATHER and str(value).strip().isdigit():
        raise ValueError(f"`{value}` would be {seconds} s: say {seconds}h for hours, {seconds}s for seconds")
    return seconds


def _parse(text: str) -> int:
    if text.startswith("-"):
        raise ValueError("must not be negative")
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds
    if text and (match := _UNITS.fullmatch(text.replace(" ", ""))):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return days * 86400 + hours * 3600 + minutes * 60 + seconds
    if text.isascii() and text.isdigit() and len(text) < 12:
        return int(text)
    raise ValueError(f"`{text}` is no duration: say seconds, H:MM:SS, or like 1h30m")


def clock(seconds: int) -> str:
    """Seconds as H:MM:SS, as OAR wants it."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
