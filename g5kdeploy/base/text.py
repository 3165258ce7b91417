"""Text that people read: durations, sizes, and foreign output made safe to print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Foreign text without what could move a cursor, set a title or colour a terminal; newlines and tabs stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret replaced by asterisks."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text


def to_paste(*words: object) -> str:
    """A command line of ours for a hint, good for a shell whatever blanks are in its paths."""
    return shlex.join(["g5kdeploy", *map(str, words)])


def human_seconds(seconds: float) -> str:
    """A duration as a person says it: 0.3 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def human_bytes(count: float) -> str:
    """A size with binary prefixes: 512 B, 17 KiB, 228 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def tail(text: str, lines: int = 20) -> str:
    """The last lines of a text, where errors stand."""
    return "\n".join(text.rstrip().splitlines()[-lines:])
