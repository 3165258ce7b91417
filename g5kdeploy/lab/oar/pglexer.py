"""Words, numbers, texts and signs of PostgreSQL's SQL, one after the other."""

from __future__ import annotations

import re
from dataclasses import dataclass

from g5kdeploy.lab.oar.pgtext import BadFilter
from g5kdeploy.lab.oar.pgvalues import Types

STRING = r"'((?:[^']|'')*)'"
_BETWEEN = r"(?>\s|--[^\n]*|/\*.*?\*/)*+"
_MORE = rf"(?:[ \t]*(?:--[^\n]*)?\n\s*{STRING})*"
"""A text goes on in the next line."""
_NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+"
_KINDS = (
    ("string", rf"[eE]?{STRING}{_MORE}"),
    ("open", r"[eE]?'.*"),
    ("quoted", r'"(?:[^"]|"")*"'),
    ("unquoted", r'".*'),
    ("word", r"[^\W\d][\w$]*"),
    ("junk", rf"(?>{_NUMBER})[^\W\d][\w$]*"),
    ("number", _NUMBER),
    ("cast", "::"),
    ("operator", r"[+*/<>=~!@#%^&|`?-]+"),
    ("mark", r"\S"),
)
_TOKEN = re.compile(f"{_BETWEEN}(?:{'|'.join(f'(?P<{kind}>{form})' for kind, form in _KINDS)})", re.DOTALL)
_WORDS = """
all analyse analyze and any array as asc asymmetric both check collate column constraint create default deferrable desc
distinct do else end except fetch for foreign from grant group having in initially intersect into lateral leading limit
offset on only or order placing primary references returning select some symmetric table then to trailing true union
unique using variadic when where window with like ilike is isnull notnull join left right inner outer full cross natural
similar freeze verbose binary overlaps tablesample authorization collation concurrently
"""
RESERVED = frozenset(_WORDS.split())
"""Words that are the name of no column."""


@dataclass(frozen=True)
class Token:
    """A word, number, string or sign of a query, and where it stands."""

    kind: str
    text: str
    at: int

    @property
    def name(self) -> str:
        """The name that a word means: in small letters unless it is quoted."""
        return self.text[1:-1].replace('""', '"') if self.kind == "quoted" else self.text.lower()

    @property
    def word(self) -> str:
        """The keyword or operator, "" for all else."""
        if self.kind == "word":
            return self.text.lower()
        return "<>" if self.text == "!=" else self.text if self.kind in ("operator", "mark", "cast") else ""


class Lexer:
    """Goes through a query token by token; `token` is the one that is looked at. Raises `BadFilter`."""

    def __init__(self, query: str, start: int) -> None:
        self.query, self.end, self.types = query, start, Types(query)
        self.token = Token("", "", start)
        self.next()

    def next(self) -> Token:
        """Go on; the token that was there."""
        was = self.token
        match = _TOKEN.match(self.query, self.end)
        kind = next((kind for kind, _ in _KINDS if match[kind] is not None), None) if match else None
        if match is None or kind is None:
            self.token = Token("end", "", len(self.query))
            return was
        text, at = match[kind], match.start(kind)
        if kind == "junk":
            raise self.types.bad(f'trailing junk after numeric literal at or near "{text}"', at)
        if kind == "open":
            raise self.types.bad(f'unterminated quoted string at or near "{text}"', at)
        if kind == "unquoted":
            raise self.types.bad(f'unterminated quoted identifier at or near "{text}"', at)
        if kind == "operator" and len(text) > 1 and not re.search("[~!@#%^&|`?]", text):
            text = text.rstrip("+-") or text[0]
        self.token, self.end = Token(kind, text, at), at + len(text)
        return was

    def taken(self, *words: str) -> Token | None:
        """Go on when it is one of these."""
        return self.next() if self.token.word in words and self.token.word else None

    def need(self, word: str) -> Token:
        found = self.taken(word)
        if found is None:
            raise self.unexpected()
        return found

    def unexpected(self) -> BadFilter:
        if self.token.kind == "end":
            return self.types.bad("syntax error at end of input", len(self.query))
        return self.types.bad(f'syntax error at or near "{self.token.text}"', self.token.at)
