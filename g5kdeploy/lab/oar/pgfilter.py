"""Conditions in PostgreSQL's SQL: read as it reads them, with its words for what is wrong, and put into SQLite's.

What is taken: comparisons, AND, OR, NOT, IS, IN, BETWEEN, LIKE, ILIKE, SIMILAR TO, `~`, arithmetic, `||`, casts, CASE and
some functions. Subqueries and arrays are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from g5kdeploy.lab.oar.pglexer import RESERVED, STRING, Lexer, Token
from g5kdeploy.lab.oar.pgvalues import (
    BOOLEAN,
    CAST,
    COMPARISONS,
    INTEGER,
    LITERAL,
    NUMBERS,
    NUMERIC,
    TEXT,
    TYPES,
    Value,
    quoted,
)

Node = Callable[[], Value]
"""What is left to do once the whole has been read: names are looked up only then."""


def translate(query: str, start: int, columns: Mapping[str, str]) -> Callable[[], str]:
    """Read the condition that a query has from `start` to its end; the result looks its names up and writes it anew.

    `columns` are types by name. Both steps raise `BadFilter`.
    """
    reader = _Reader(query, start, columns)
    node = reader.expression()
    if reader.token.kind != "end":
        raise reader.unexpected()

    def write() -> str:
        return reader.types.condition(node(), "WHERE").sql

    return write


class _Reader(Lexer):
    def __init__(self, query: str, start: int, columns: Mapping[str, str]) -> None:
        super().__init__(query, start)
        self.columns = columns

    # expressions, the loosest first

    def expression(self) -> Node:
        """A condition, or any other value."""
        return self._joined("or", lambda: self._joined("and", self._negated))

    def _joined(self, word: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self.taken(word):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]

        def write() -> Value:
            values = [self.types.condition(one(), word.upper()) for one in parts]
            return Value(BOOLEAN, f"({f' {word} '.join(one.sql for one in values)})", values[0].at)

        return write

    def _negated(self) -> Node:
        at = self.taken("not")
        if at is None:
            return self._tested()
        inner = self._negated()
        return lambda: Value(BOOLEAN, f"(not {self.types.condition(inner(), 'NOT').sql})", at.at)

    def _tested(self) -> Node:
        node = self._compared()
        while (word := self.taken("is", "isnull", "notnull")) is not None:
            if word.word != "is":
                node = self._null(node, word.word == "notnull")
                continue
            no = self.taken("not") is not None
            if self.taken("null"):
                node = self._null(node, no)
            elif (kind := self.taken("true", "false", "unknown")) is not None:
                node = self._truth(node, kind.word, no)
            elif self.taken("distinct"):
                self.need("from")
                node = self._binary("is" if no else "is not", "=", word.at, node, self._compared())
            else:
                raise self.unexpected()
        return node

    def _null(self, node: Node, no: bool) -> Node:
        def write() -> Value:
            one = node()
            return Value(BOOLEAN, f"({one.sql} is {'not ' if no else ''}null)", one.at)

        return write

    def _truth(self, node: Node, kind: str, no: bool) -> Node:
        def write() -> Value:
            one = self.types.condition(node(), f"IS {'NOT ' if no else ''}{kind.upper()}")
            wanted = "null" if kind == "unknown" else kind
            return Value(BOOLEAN, f"({one.sql} is {'not ' if no else ''}{wanted})", one.at)

        return write

    def _compared(self) -> Node:
        """One comparison: there are no chains of them."""
        left = self._matched()
        operator = self.taken(*COMPARISONS)
        if operator is None:
            return left
        node = self._binary(operator.word, operator.word, operator.at, left, self._matched())
        if self.token.word in COMPARISONS:
            raise self.unexpected()
        return node

    def _matched(self) -> Node:
        node = self._other()
        where = self.token
        no = "not " if self.token.word == "not" and self._after_not() else ""
        word = self.taken("in", "between", "like", "ilike", "similar")
        if word is None:
            return node
        if word.word == "in":
            return self._listed(node, no, where.at)
        if word.word == "between":
            self.taken("symmetric")
            low = self._other()
            self.need("and")
            least = self._binary(">=", ">=", where.at, node, low)
            most = self._binary("<=", "<=", where.at, node, self._other())

            def between() -> Value:
                return Value(BOOLEAN, f"({no}({least().sql} and {most().sql}))", where.at)

            return between
        if word.word == "similar":
            self.need("to")
        pattern = self._other()
        escape = self._other() if self.taken("escape") else None
        if word.word == "similar" or escape is not None:
            return self._shaped(word.word, no, where.at, node, pattern, escape)
        sign = ("!" if no else "") + {"like": "~~", "ilike": "~~*"}[word.word]
        return self._binary(sign, sign, where.at, node, pattern)

    def _shaped(self, word: str, no: str, at: int, node: Node, pattern: Node, escape: Node | None) -> Node:
        """SIMILAR TO, and the kinds of LIKE with an ESCAPE."""
        shape = {"like": "{0} like {1}", "ilike": "lower({0}) like lower({1})"}.get(word, "similar({1}, {0})")

        def write() -> Value:
            one, other = self.types.texts("~", at, node(), pattern())
            way_out = f" escape {escape().sql}" if escape is not None and word != "similar" else ""
            return Value(BOOLEAN, f"({no}({shape.format(one.sql, other.sql)}{way_out}))", one.at)

        return write

    def _after_not(self) -> bool:
        """Go over a NOT behind a value: it must belong to what follows it."""
        self.next()
        if self.token.word not in ("in", "between", "like", "ilike", "similar"):
            raise self.unexpected()
        return True

    def _listed(self, node: Node, no: str, at: int) -> Node:
        self.need("(")
        options = [self.expression()]
        while self.taken(","):
            options.append(self.expression())
        self.need(")")
        sign = "<>" if no else "="

        def write() -> Value:
            left = node()
            pairs = [self.types.compare("=", sign, at, left, one()) for one in options]
            return Value(BOOLEAN, f"({no}({' or '.join(one.sql for one in pairs)}))", left.at)

        return write

    def _other(self) -> Node:
        """Operators that have no place of their own."""
        node = self._sum()
        while self.token.kind == "operator" and self.token.word not in (*COMPARISONS, *"+-*/%^", "=>"):
            operator = self.next()
            node = self._binary(operator.word, operator.word, operator.at, node, self._sum())
        return node

    def _sum(self) -> Node:
        node = self._product()
        while (operator := self.taken("+", "-")) is not None:
            node = self._binary(operator.word, operator.word, operator.at, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._signed()
        while (operator := self.taken("*", "/", "%")) is not None:
            node = self._binary(operator.word, operator.word, operator.at, node, self._signed())
        return node

    def _signed(self) -> Node:
        if self.token.kind == "operator" and self.token.word not in (*COMPARISONS, "*", "/", "%", "^"):
            sign = self.next()
            inner = self._signed()

            def write() -> Value:
                one = inner()
                if sign.word not in ("+", "-") or one.type not in (*NUMBERS, LITERAL):
                    trouble = f"operator does not exist: {sign.word} {one.type}"
                    raise self.types.bad(
                        trouble, sign.at, f"No operator matches the given name and argument type. {CAST}"
                    )
                return Value(one.type, f"({sign.word}{one.sql})", sign.at, one.text and sign.word + one.text)

            return write
        node = self._primary()
        while self.taken("::"):
            node = self._cast(node, self._type())
        return node

    def _cast(self, node: Node, kind: str) -> Node:
        def write() -> Value:
            one = self.types.as_type(node(), kind)
            form = {TEXT: "text", NUMERIC: "real"}.get(kind, "integer")
            return Value(kind, f"cast({one.sql} as {form})", one.at)

        return write

    def _type(self) -> str:
        name = self.token
        if name.kind not in ("word", "quoted"):
            raise self.unexpected()
        self.next()
        if name.word == "character":
            self.taken("varying")
        if self.taken("("):
            if self.token.kind != "number":
                raise self.unexpected()
            self.next()
            self.need(")")
        found = TEXT if name.word == "character" else TYPES.get(name.word)
        if found is None:
            raise self.types.bad(f'type "{name.word or name.text}" does not exist', name.at)
        return found

    def _primary(self) -> Node:
        token = self.token
        if token.word in ("true", "false", "null"):
            self.next()
            kind = LITERAL if token.word == "null" else BOOLEAN
            return lambda: Value(kind, token.word, token.at)
        if token.kind == "number":
            self.next()
            kind = INTEGER if token.text.isdecimal() and int(token.text) < 2**31 else NUMERIC
            return lambda: Value(kind, token.text, token.at)
        if token.kind == "string":
            self.next()
            text = "".join(re.findall(STRING, token.text)).replace("''", "'")
            return lambda: Value(LITERAL, quoted(text), token.at, text)
        if self.taken("("):
            inner = self.expression()
            self.need(")")
            return inner
        if token.word == "case":
            return self._case()
        if token.word == "cast":
            self.next()
            self.need("(")
            inner = self.expression()
            self.need("as")
            kind = self._type()
            self.need(")")
            return self._cast(inner, kind)
        if token.kind not in ("word", "quoted") or token.word in RESERVED:
            raise self.unexpected()
        self.next()
        if self.taken("("):
            return self._call(token)
        name = token.name
        if not self.taken("."):
            return lambda: self._column(name, token.at)
        column = self.token
        if column.kind not in ("word", "quoted"):
            raise self.unexpected()
        self.next()
        if name == "resources":
            return lambda: self._column(column.name, token.at)

        def elsewhere() -> Value:
            raise self.types.bad(f'missing FROM-clause entry for table "{name}"', token.at)

        return elsewhere

    def _binary(self, sql: str, sign: str, at: int, left: Node, right: Node) -> Node:
        return lambda: self.types.compare(sql, sign, at, left(), right())

    def _column(self, name: str, at: int) -> Value:
        if name not in self.columns:
            raise self.types.bad(f'column "{name}" does not exist', at)
        return Value(self.columns[name], '"' + name.replace('"', '""') + '"', at)

    def _case(self) -> Node:
        at = self.next().at
        subject = None if self.token.word == "when" else self.expression()
        branches: list[tuple[Node, Node]] = []
        while self.taken("when"):
            when = self.expression()
            if subject is not None:
                when = self._binary("=", "=", at, subject, when)
            self.need("then")
            branches.append((when, self.expression()))
        if not branches:
            raise self.unexpected()
        rest = self.expression() if self.taken("else") else None
        self.need("end")

        def write() -> Value:
            made = [(self.types.condition(when(), "CASE/WHEN"), then()) for when, then in branches]
            last = rest() if rest else Value(LITERAL, "null", at)
            text = " ".join(f"when {when.sql} then {then.sql}" for when, then in made)
            return Value(made[0][1].type, f"(case {text} else {last.sql} end)", at)

        return write

    def _call(self, name: Token) -> Node:
        given: list[Node] = []
        if not self.taken(")"):
            given.append(self.expression())
            while self.taken(","):
                given.append(self.expression())
            self.need(")")
        called = name.name

        return lambda: self.types.call(called, name.at, [one() for one in given])
