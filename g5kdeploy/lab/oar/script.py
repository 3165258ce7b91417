"""Lines of a job's script that begin with `#OAR`: options for oarsub, where it is asked to look for them (-S)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from g5kdeploy.lab.oar.options import Given

_FORMS = (
    ("resource", "-l|--resource", ".+"),
    ("queue", "-q|--queue", ".+"),
    ("property", "-p|--property", ".+"),
    ("checkpoint", "--checkpoint", r"\d+"),
    ("notify", "--notify", ".+"),
    ("type", "-t|--type", ".+"),
    ("directory", "-d|--directory", ".+"),
    ("name", "-n|--name", ".+"),
    ("project", "--project", ".+"),
    ("hold", "--hold", ""),
    ("anterior", "-a|--anterior", r"\d+"),
    ("signal", "--signal", r"\d+"),
    ("stdout", "-O|--stdout", ".+"),
    ("stderr", "-E|--stderr", ".+"),
    ("use-job-key", "-k|--use-job-key", ""),
    ("import-job-key-inline-priv", "--import-job-key-inline-priv", ".+"),
    ("import-job-key-from-file", "-i|--import-job-key-from-file", ".+"),
    ("export-job-key-to-file", "-e|--export-job-key-to-file", ".+"),
    ("array", "--array", r"\d+"),
    ("array-param-file", "--array-param-file", ".+"),
)
_LINES = [
    (name, re.compile(rf"#OAR\s+(?:{words})\s*({value})\s*$" if value else rf"#OAR\s+(?:{words})\s*$"))
    for name, words, value in _FORMS
]
_ADDED = frozenset({"resource", "type", "anterior"})
"""Options of the script that come to those of the command line, which otherwise prevail."""
_CALLED = {"directory": "name", "project": "name", "signal": "hold"}
"""What oarsub calls some of them where it says that they are ignored."""


class BadScript(Exception):
    """Lines that are no options; what oarsub says."""


def option_lines(text: str) -> list[str]:
    """The lines of a script that are for oarsub; none unless its first one begins with a hash."""
    first, _, rest = text.partition("\n")
    if not first.startswith("#"):
        return []
    return [line.rstrip() for line in rest.splitlines() if re.match(r"#OAR\s+", line)]


def merge(given: Given, lines: Iterable[str], file: str) -> str:
    """Put a script's options beside those of the command line; warnings of what is ignored. Raises `BadScript`."""
    wrong, warnings = "", ""
    found: dict[str, list[str | None]] = {}
    for line in lines:
        match = next(((name, match) for name, form in _LINES if (match := form.match(line))), None)
        if match is None:
            wrong += f"/!\\ Not able to scan file line: {line}.\n"
            continue
        name, parts = match
        value = parts[1] if parts.groups() else None
        found[name] = [*found.get(name, ()), value] if name in _ADDED else [value]
    if wrong:
        count = wrong.count("\n")
        raise BadScript(f"{wrong}[ERROR] {count} error(s) encountered while parsing the file {file}.\n")
    for name, values in found.items():
        if name in _ADDED:
            given.values.setdefault(name, []).extend(values)
            continue
        if name in given or name == "directory":
            shown = "1" if values[0] is None else values[0]
            warnings += f"# Warning: ignore script value for {_CALLED.get(name, name)} parameter: {shown}; "
            warnings += "another value was given on the command line.\n"
        if name not in given or name == "directory":  # that of the script prevails, whatever is said
            given.values[name] = values
    return warnings


def parameters(text: str) -> list[str]:
    """The lines of an array's file of parameters, without comments and empty ones."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    return [line for line in lines if line.strip()]
