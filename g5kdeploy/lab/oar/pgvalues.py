"""Types of values in PostgreSQL's conditions: what an operator or a function makes of them, and its words where none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from g5kdeploy.lab.oar.pgtext import BadFilter

TEXT, INTEGER, BIGINT, NUMERIC, BOOLEAN, LITERAL = (
    "character varying",
    "integer",
    "bigint",
    "numeric",
    "boolean",
    "unknown",
)
NUMBERS = (INTEGER, BIGINT, NUMERIC)
_WIDEST = {INTEGER: 2**31, BIGINT: 2**63}
COMPARISONS = ("=", "<", ">", "<=", ">=", "<>")
TYPES = {
    **dict.fromkeys(("text", "varchar", "char", "name"), TEXT),
    **dict.fromkeys(("integer", "int", "int4", "int2", "smallint"), INTEGER),
    **dict.fromkeys(("bigint", "int8"), BIGINT),
    **dict.fromkeys(("numeric", "decimal", "real", "float", "float8"), NUMERIC),
    **dict.fromkeys(("boolean", "bool"), BOOLEAN),
}
_FUNCTIONS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "upper": ("upper", (TEXT,), TEXT),
    "lower": ("lower", (TEXT,), TEXT),
    "trim": ("trim", (TEXT,), TEXT),
    "length": ("length", (TEXT,), INTEGER),
    "replace": ("replace", (TEXT, TEXT, TEXT), TEXT),
    "substr": ("substr", (TEXT, INTEGER, INTEGER), TEXT),
    "substring": ("substr", (TEXT, INTEGER, INTEGER), TEXT),
    "strpos": ("instr", (TEXT, TEXT), INTEGER),
    "split_part": ("split_part", (TEXT, TEXT, INTEGER), TEXT),
    "abs": ("abs", (INTEGER,), INTEGER),
    "mod": ("mod", (INTEGER, INTEGER), INTEGER),
    "random": ("chance", (), NUMERIC),
}
_OF_ONE_TYPE = {"coalesce": "coalesce", "nullif": "nullif", "greatest": "max", "least": "min"}
"""Functions of values that are all of one type, whichever."""
_LIKE = {"~~": "{} like {}", "~~*": "lower({}) like lower({})"}
_SHORTER = ("substr", "substring")
"""Functions that can do without their last argument."""
CASTS = "You might need to add explicit type casts."
CAST = "You might need to add an explicit type cast."


@dataclass(frozen=True)
class Value:
    """An expression whose type is known: its SQL for SQLite."""

    type: str
    sql: str
    at: int
    text: str = ""
    """What a literal says."""


class Types:
    """Makes values out of values; what is wrong with them is told with its place in the query. Raises `BadFilter`."""

    def __init__(self, query: str) -> None:
        self.query = query

    def bad(self, error: str, at: int, hint: str = "") -> BadFilter:
        """An error at a place of the query."""
        return BadFilter(error, self.query, at, hint)

    def compare(self, sql: str, sign: str, at: int, left: Value, right: Value) -> Value:
        """Two values with an operator between them: what it makes of their types, or that there is no such one."""
        if sign in ("~", "~*", "!~", "!~*"):
            one, other = self.texts(sign, at, left, right)
            flags = "(?i)" if sign.endswith("*") else ""
            text = f"regexp({quoted(flags)} || {other.sql}, {one.sql})"
            return Value(BOOLEAN, f"(not {text})" if sign.startswith("!") else text, left.at)
        if (shape := _LIKE.get(sign.removeprefix("!"))) is not None:
            one, other = self.texts(sign, at, left, right)
            text = f"({shape.format(one.sql, other.sql)} escape '\\')"
            return Value(BOOLEAN, f"(not {text})" if sign.startswith("!") else text, left.at)
        kinds = {left.type, right.type} - {LITERAL}
        if sign == "||" and not kinds <= set(NUMBERS) | {BOOLEAN}:
            return Value(TEXT, f"({left.sql} || {right.sql})", left.at)
        same = len(kinds) < 2 or kinds <= set(NUMBERS)
        kind = next((one for one in (NUMERIC, BIGINT, INTEGER, BOOLEAN, TEXT) if one in kinds), TEXT)
        if sign in COMPARISONS and same:
            # a literal becomes what the other side is
            one = self.as_type(left, right.type if left.type == LITERAL and kinds else left.type)
            other = self.as_type(right, left.type if right.type == LITERAL and kinds else right.type)
            return Value(BOOLEAN, f"({one.sql} {sql} {other.sql})", left.at)
        if sign in ("+", "-", "*", "/", "%") and same and kinds and kinds <= set(NUMBERS):
            one, other = self.as_type(left, kind), self.as_type(right, kind)
            return Value(kind, f"({one.sql} {sign} {other.sql})", left.at)
        raise self._no_operator(sign, at, left, right)

    def texts(self, sign: str, at: int, left: Value, right: Value) -> tuple[Value, Value]:
        if not {left.type, right.type} <= {TEXT, LITERAL}:
            raise self._no_operator(sign, at, left, right)
        return left, right

    def _no_operator(self, sign: str, at: int, left: Value, right: Value) -> BadFilter:
        trouble = f"operator does not exist: {left.type} {sign} {right.type}"
        return self.bad(trouble, at, f"No operator matches the given name and argument types. {CASTS}")

    def as_type(self, one: Value, kind: str) -> Value:
        """A literal as what it is to be; all else stays."""
        if one.type != LITERAL or one.sql == "null" or kind in (TEXT, LITERAL):
            return one
        text = one.text.strip()
        if kind == BOOLEAN:
            spelled = [word for word in ("true", "yes", "on", "1", "false", "no", "off", "0") if text]
            fits = {word in ("true", "yes", "on", "1") for word in spelled if word.startswith(text.lower())}
            if len(fits) == 1:
                return Value(kind, "true" if fits.pop() else "false", one.at)
        elif kind == NUMERIC:
            if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE | re.ASCII):
                return Value(kind, f"({text})", one.at)
        elif re.fullmatch(r"[+-]?\d+", text, re.ASCII):
            if not -_WIDEST[kind] <= int(text) < _WIDEST[kind]:
                raise self.bad(f'value "{one.text}" is out of range for type {kind}', one.at)
            return Value(kind, f"({int(text)})", one.at)
        raise self.bad(f'invalid input syntax for type {kind}: "{one.text}"', one.at)

    def condition(self, one: Value, whose: str) -> Value:
        """A value that is to be true or false."""
        one = self.as_type(one, BOOLEAN)
        if one.type not in (BOOLEAN, LITERAL):
            raise self.bad(f"argument of {whose} must be type boolean, not type {one.type}", one.at)
        return one

    def call(self, called: str, at: int, values: list[Value]) -> Value:
        """A function of values."""
        if called in _OF_ONE_TYPE and values:
            kind = next((one.type for one in values if one.type != LITERAL), LITERAL)
            texts = ", ".join(self.as_type(one, kind).sql for one in [*values, *values[-1:]][: max(2, len(values))])
            return Value(kind, f"{_OF_ONE_TYPE[called]}({texts})", at)
        ours, wanted, kind = _FUNCTIONS.get(called, ("", (), ""))
        most = len(wanted)
        fits = most - (called in _SHORTER) <= len(values) <= most and all(
            one.type in (need, LITERAL) or (need == INTEGER and one.type in NUMBERS)
            for one, need in zip(values, wanted, strict=False)
        )
        if not ours or not fits:
            types = ", ".join(one.type for one in values)
            hint = f"No function matches the given name and argument types. {CASTS}"
            raise self.bad(f"function {called}({types}) does not exist", at, hint)
        arguments = [self.as_type(one, need).sql for one, need in zip(values, wanted, strict=False)]
        return Value(kind, f"{ours}({', '.join(arguments)})", at)


def quoted(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"
