"""YAML with the line of every key, as YAML 1.2 reads it: `no` is a word and 1:30 is not 90."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from g5kdeploy.events.failure import InvalidUse

LARGEST = 1 << 20  # bytes
DEEPEST = 50  # brackets within brackets
MOST = 20_000  # values in a file, aliases counted as often as they are used
DIGITS = 30  # of a whole number
Place = tuple[str | int, ...]
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # escapes can name what no program, file or URL takes


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong: where (file:line, or the option it came from), what, and what may have been meant."""

    where: str
    message: str
    hint: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class Mistakes(InvalidUse):
    """A file that is wrong in one or several places; all of them are told at once."""

    def __init__(self, file: Path, mistakes: list[Mistake], page: str = "docs/experiment-file.md") -> None:
        self.file = file
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line))
        count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        where = f" in {file}" if any(mistake.line for mistake in mistakes) else ""  # else in flags and variables alone
        lines = "".join(f"\n{mistake}" for mistake in self.mistakes)
        super().__init__(f"{count}{where}{lines}", hint=f"{page} explains every key")


@dataclass
class Source:
    """A file's values, the line of each place in them, and the mistakes that were met on the way."""

    file: Path
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest one around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def wrong(self, place: Place, message: str, hint: str = "") -> None:
        line = self.line(place)
        self.mistakes.append(Mistake(f"{self.file}:{line}", message, hint, line))


class _Loader(yaml.SafeLoader):
    """Scalars as YAML 1.2's core schema has them."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own form

    def fetch_flow_collection_start(self, kind: Any) -> None:
        """PyYAML looks at every open bracket again for each token: garbage full of them would take hours."""
        if self.flow_level >= DEEPEST:
            raise yaml.scanner.ScannerError(None, None, "nested too deeply", self.get_mark())
        super().fetch_flow_collection_start(kind)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
     "-+.0123456789"),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def read(file: Path) -> Source:
    """A mapping from a YAML file. Raises `Mistakes` when it is none at all; lesser mistakes are in the result."""
    source = Source(file)
    text = _text(source)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        if node is None:
            _give_up(source, 1, "the file is empty")
        if not isinstance(node, yaml.MappingNode):
            _give_up(source, node.start_mark.line + 1, "must be a mapping of keys to values, and is none")
        value = _Walk(source).value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        said = "a tab, where only spaces indent" if r"'\t'" in said else said
        _give_up(source, mark.line + 1 if mark else 1, f"not valid YAML: {said}")
    except yaml.YAMLError as error:
        _give_up(source, _line_of_bad_character(text), f"not valid YAML: {str(error).splitlines()[0]}")
    except RecursionError:
        _give_up(source, 1, "nested too deeply")
    assert isinstance(value, dict)
    source.values = value
    return source


def _text(source: Source) -> str:
    file = source.file
    try:
        if not file.exists():
            raise InvalidUse(f"{file} does not exist", hint="g5kdeploy init FOLDER writes a new experiment")
        if not file.is_file():
            raise InvalidUse(f"{file} is not a file")
        if file.stat().st_size > LARGEST:
            _give_up(source, 1, "larger than 1 MiB: this is no experiment file")
        data = file.read_bytes()
    except OSError as error:
        raise InvalidUse(f"{file} cannot be read", cause=error.strerror or str(error)) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        _give_up(source, data.count(b"\n", 0, error.start) + 1, "not text in UTF-8")


def _line_of_bad_character(text: str) -> int:
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _give_up(source: Source, line: int, message: str) -> NoReturn:
    raise Mistakes(source.file, [*source.mistakes, Mistake(f"{source.file}:{line}", message, line=line)])


class _Walk:
    """From YAML's nodes to plain values, noting lines and duplicate keys."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.count = 0
        self.open: set[int] = set()
        self.make = yaml.SafeLoader("")

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.count += 1
        if self.count > MOST or id(node) in self.open:
            _give_up(self.source, node.start_mark.line + 1, "more values than an experiment file can have")
        self.source.lines.setdefault(place, node.start_mark.line + 1)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, place)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(child, (*place, index)) for index, child in enumerate(node.value)]
            return self.scalar(node, place)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(line, "a key must be a word")
                continue
            name = str(key.value)
            if name == "<<":
                self._wrong(line, "`<<` merges nothing here", "YAML 1.2 has no merge keys: write the keys out")
                continue
            if name in found:
                before = self.source.lines[(*place, name)]
                self._wrong(line, f"duplicate key `{name}`", f"first in line {before}")
                continue
            self.source.lines[(*place, name)] = line
            found[name] = self.value(child, (*place, name))
        return found

    def scalar(self, node: yaml.Node, place: Place) -> Any:
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        text = str(node.value)
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        if tag == "int" and len(text) > DIGITS:
            self._wrong(node.start_mark.line + 1, "no number has so many digits")
            return 0
        if tag == "int":
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if tag == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if tag != "str":
            self._wrong(node.start_mark.line + 1, f"the tag `{node.tag}` means nothing here")
        if _NO_TEXT.search(text):
            self._wrong(node.start_mark.line + 1, "no text has such characters")
        return text

    def _wrong(self, line: int, message: str, hint: str = "") -> None:
        self.source.mistakes.append(Mistake(f"{self.source.file}:{line}", message, hint, line))
