"""Moments as people write them, read as Ruby's Time.parse does."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from g5kdeploy.lab.api.ruby import written

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DAY = re.compile(r"\b(?:sun|mon|tue|wed|thu|fri|sat)[^-/\d\s]*", re.IGNORECASE)
_TIME = re.compile(
    r"(\d+)\s*(?::\s*(\d+)(?:\s*:\s*(\d+)(?:[,.]\d*)?)?|h(?:\s*(\d+)m?(?:\s*(\d+)s?)?)?)?(?:\s*([ap])(?:m\b|\.m\.))?"
    r"(?:\s*((?:gmt|utc?)?[-+]\d+(?:[,.:]\d+(?::\d+)?)?|[a-z]+(?:\sdst)?\b))?",
    re.IGNORECASE,
)
_EUROPEAN = re.compile(
    rf"('?\d+)[^-\d\s]*\s*({_MONTHS})[^-\d\s']*(?:\s*('?-?\d+(?:(?:st|nd|rd|th)\b)?))?", re.IGNORECASE
)
_AMERICAN = re.compile(rf"\b({_MONTHS})[^-\d\s']*\s*('?\d+)[^-\d\s']*(?:\s*,?\s*('?-?\d+))?", re.IGNORECASE)
_NUMBERS = (
    re.compile(r"('?[-+]?\d+)-(\d+)-('?-?\d+)"),
    re.compile(r"('?-?\d+)/\s*('?\d+)(?:\D\s*('?-?\d+))?"),
    re.compile(r"('?-?\d+)\.\s*('?\d+)\.\s*('?-?\d+)"),
)
_DIGITS = re.compile(r"[-+]?(\d{2,14})(?:\s*t?\s*(\d{2,6})?(?:[,.]\d*)?)?(z\b|[-+]\d{1,4}\b)?", re.IGNORECASE)
_LENGTHS = {2: "d", 4: "md", 6: "ymd", 8: "Ymd", 10: "YmdH", 12: "YmdHM", 14: "YmdHMS"}

Parts = dict[str, int]


def moment(text: str, now: float) -> float:
    """Unix seconds of a moment that is written somehow; what it leaves out in front is as it is `now`, at UTC.

    Raises `ValueError` in Ruby's words.
    """
    parts, zone = _read(re.sub(r"[^-+',./:@\w\[\]]+", " ", text))
    if not parts:
        raise ValueError(f"no time information in {written(text)}")
    today = datetime.fromtimestamp(now, UTC)
    given = {"Y": today.year, "m": today.month, "d": today.day}
    named = [unit for unit in "Ymd" if unit in parts]
    for unit in "Ymd"["Ymd".index(named[0]) :] if named else "":
        given[unit] = 1
    given.update(parts)
    hour, minute, second = (parts.get(unit, 0) for unit in "HMS")
    for name, value, least, most, widest in (
        ("mon", given["m"], 1, 12, 15),
        ("mday", given["d"], 1, 31, 31),
        ("hour", hour, 0, 24, 31),
        ("min", minute, 0, 0 if hour == 24 else 59, 63),
        ("sec", second, 0, 0 if hour == 24 else 60, 63),
    ):
        if not least <= value <= most:
            raise ValueError(f"{name if value <= widest else 'argument'} out of range")
    begin = datetime(max(1, min(given["Y"], 9998)), given["m"], 1, tzinfo=UTC)  # far off is far enough
    return (begin + timedelta(given["d"] - 1, second, minutes=minute, hours=hour)).timestamp() - _offset(zone)


def _read(text: str) -> tuple[Parts, str]:
    """The parts that are found, and the zone."""
    text = _DAY.sub(" ", text, count=1)
    parts: Parts = {}
    zone = ""
    for clock in _TIME.finditer(text):
        hour, minute, second, minutes, seconds, half, after = clock.groups()
        if half is None and minute is None and not re.match(r"\d+\s*h", clock[0], re.IGNORECASE):
            continue  # a number alone
        parts = {"H": int(hour), "M": int(minute or minutes or 0), "S": int(second or seconds or 0)}
        if half:
            parts["H"] = parts["H"] % 12 + (12 if half.lower() == "p" else 0)
        zone = after or ""
        text = f"{text[: clock.start()]} {text[clock.end() :]}"
        break
    if found := _EUROPEAN.search(text):
        return {**_date(found[3], found[2], found[1]), **parts}, zone
    if found := _AMERICAN.search(text):
        return {**_date(found[3], found[1], found[2]), **parts}, zone
    for form in _NUMBERS:
        if found := form.search(text):
            return {**_date(found[1], found[2], found[3]), **parts}, zone
    if found := re.search(rf"\b({_MONTHS})\S*", text, re.IGNORECASE):
        return {"m": _month(found[1]), **parts}, zone
    if found := re.search(r"(\d+)(?:st|nd|rd|th)\b", text, re.IGNORECASE):
        return {"d": int(found[1]), **parts}, zone
    if found := _DIGITS.search(text):
        return {**_packed(found[1], found[2] or ""), **parts}, zone or found[3] or ""
    return parts, zone


def _date(year: str | None, month: str, day: str | None) -> Parts:
    """Year, month and day, which may stand the other way round; a year of two digits is one of these times."""
    if year and day is None:  # month/day
        return {"m": int(re.sub(r"\D", "", year)), "d": int(re.sub(r"\D", "", month))}
    if day and len(re.sub(r"\D.*", "", day.lstrip("'-"))) > 2:
        year, day = day, year
    found: Parts = {"m": _month(month)}
    if year:
        digits = re.sub(r"[^\d-]", "", year)
        found["Y"] = int(digits)
        if 0 <= found["Y"] < 100:
            found["Y"] += 2000 if found["Y"] < 69 else 1900
    if day:
        found["d"] = int(re.sub(r"\D", "", day))
    return found


def _month(text: str) -> int:
    return int(text) if text.isdecimal() else _MONTHS.split("|").index(text.lower()) + 1


def _packed(date: str, clock: str) -> Parts:
    """Digits without signs between them; what they are, their number tells."""
    found: Parts = {}
    for unit in _LENGTHS.get(len(date), ""):
        width = 4 if unit == "Y" else 2
        found[unit.upper() if unit == "y" else unit] = int(date[:width]) + (2000 if unit == "y" else 0)
        date = date[width:]
    for unit, at in zip("HMS", range(0, len(clock) - 1, 2), strict=False):
        found[unit] = int(clock[at : at + 2])
    return found


def _offset(zone: str) -> int:
    """Seconds east of Greenwich."""
    found = re.search(r"([-+])(\d{1,2}):?(\d{2})?", zone)
    if not found:
        return 0
    east = int(found[2]) * 3600 + int(found[3] or 0) * 60
    return -east if found[1] == "-" else east
