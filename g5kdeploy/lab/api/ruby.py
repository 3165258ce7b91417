"""How Ruby and Rails read and print values: the real server's habits with what a client gives it."""

from __future__ import annotations

import json
import re
from typing import Any


class Symbols(dict[str, Any]):
    """A mapping whose keys are symbols, as a model of the real server keeps one."""


def to_i(value: Any) -> int:
    """A number as Ruby's to_i reads it: the digits in front, 0 when there are none."""
    if isinstance(value, bool) or value is None:
        return 0
    if isinstance(value, int | float):
        return int(value)
    match = re.match(r"\s*([+-]?\d+(?:_\d+)*)", str(value), re.ASCII)
    return int(match[1]) if match else 0


def blank(value: Any) -> bool:
    """Rails' blank?: nothing, false, or text of spaces only."""
    return (
        value is None or value is False or value == [] or value == {} or (isinstance(value, str) and not value.strip())
    )


def to_s(value: Any) -> str:
    """A number or a text as Ruby's to_s writes it: 1.0e+20."""
    text = str(value)
    return re.sub("^(-?\\d+)e", r"\1.0e", text) if isinstance(value, float) else text


def shown(value: Any) -> str:
    """A value within a text: a text is itself, all else as it is written in a program."""
    return value if isinstance(value, str) else written(value)


def written(value: Any) -> str:
    """A value as it is written in a program (`inspect`)."""
    if value is None:
        return "nil"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        mark = ":" if isinstance(value, Symbols) else ""
        keys = (mark + (key if mark and re.fullmatch(r"[^\W\d]\w*[?!]?", key) else written(key)) for key in value)
        return "{" + ", ".join(f"{key}=>{written(one)}" for key, one in zip(keys, value.values(), strict=True)) + "}"
    return json.dumps(value, ensure_ascii=False)


def no_method(name: str, line: str, marked: str, value: Any = None) -> str:
    """What Ruby says of a method that a value has not, with the line of the source and the place in it."""
    kinds = {list: "Array", bool: f"{str(value).title()}Class", int: "Integer", float: "Float", str: "String",
             Symbols: "Hash"}  # fmt: skip
    whose = _within(value) if type(value) is dict else f"{_within(value)}:{kinds.get(type(value), 'NilClass')}"
    all_of_it = ("to_s", "to_a", "to_h")
    alike = {list: all_of_it, Symbols: all_of_it, dict: ("to_s", "to_h"), bool: ("to_s",)}.get(type(value), ())
    hint = "\nDid you mean?  " + "\n               ".join(alike) if name == "to_i" and alike else ""
    place = f"{' ' * line.index(marked)}{'^' * len(marked)}"
    return f"undefined method `{name}' for {whose}\n\n{line}\n{place}{hint}"


def _within(value: Any) -> str:
    """As `written`, but mappings are what Rails keeps parameters in."""
    if isinstance(value, list):
        return f"[{', '.join(map(_within, value))}]"
    return (
        f"#<ActionController::Parameters {written(value)} permitted: false>" if type(value) is dict else written(value)
    )
