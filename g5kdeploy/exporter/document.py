"""YAML that remembers its lines: every mistake is collected with its place, before anything is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WANTED = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
_LARGEST = 4 << 20  # bytes of a file that is still taken for a configuration
_DEEPEST = 64
_MOST = 200_000  # values, aliases counted at each use


@dataclass
class Mistakes:
    """What is wrong: files, their lines (0: no line's fault), sentences."""

    entries: list[tuple[Path, int, str]] = field(default_factory=list)

    def add(self, file: Path, line: int, text: str) -> None:
        self.entries.append((file, line, text))

    @property
    def found(self) -> list[str]:
        """Each as `file:line: sentence`, by file and line."""
        order: dict[Path, int] = {}
        for file, _, _ in self.entries:
            order.setdefault(file, len(order))
        entries = sorted(self.entries, key=lambda entry: (order[entry[0]], entry[1]))
        return [f"{file}:{line}: {text}" if line else f"{file}: {text}" for file, line, text in entries]

    def __bool__(self) -> bool:
        return bool(self.entries)


class Part:
    """One value of a document, with the line it begins on (from 1)."""

    def __init__(self, node: yaml.Node, file: Path, mistakes: Mistakes) -> None:
        self.node = node
        self.file = file
        self.mistakes = mistakes

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    def wrong(self, text: str) -> None:
        self.mistakes.add(self.file, self.line, text)

    def _part(self, node: yaml.Node) -> Part:
        return Part(node, self.file, self.mistakes)

    def entries(self, what: str) -> dict[str, Part]:
        """A mapping's values; a wrong or duplicate key is a mistake. Empty if it is no mapping."""
        if not isinstance(self.node, yaml.MappingNode):
            self.wrong(f"{what} must be a mapping")
            return {}
        found: dict[str, Part] = {}
        for key, value in self.node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._part(key).wrong(f"a key of {what} must be a word")
            elif key.value in found:
                self._part(key).wrong(f"{key.value} stands twice in {what}")
            else:
                found[key.value] = self._part(value)
        return found

    def fields(self, what: str, known: Mapping[str, bool]) -> dict[str, Part]:
        """A mapping with known keys (True: must be there). Unknown and missing ones are mistakes."""
        found = self.entries(what)
        for name in list(found):
            if name not in known:
                found.pop(name).wrong(f"unknown key {name} in {what}; known: {', '.join(known)}")
        if isinstance(self.node, yaml.MappingNode):
            for name, wanted in known.items():
                if wanted and name not in found:
                    self.wrong(f"{what} lacks {name}")
        return found

    def items(self, what: str) -> list[Part]:
        """A list's values; empty if it is no list."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.wrong(f"{what} must be a list")
            return []
        return [self._part(node) for node in self.node.value]

    def value(self, what: str, kind: type) -> Any:
        """A scalar of the wanted type; None and a mistake otherwise. A string is taken as written, also 0 or true."""
        node = self.node
        if isinstance(node, yaml.ScalarNode):
            if kind is str:
                return node.value
            value = yaml.safe_load(node.value) if not node.style else node.value
            if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
            if kind is float and isinstance(value, str):
                return self._exponent(value, what)
            if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
                return value
        self.wrong(f"{what} must be {_WANTED[kind]}")
        return None

    def _exponent(self, text: str, what: str) -> float | None:
        """A number such as 1e-9, which YAML 1.1 takes for a string for want of a dot."""
        try:
            return float(text)
        except ValueError:
            self.wrong(f"{what} must be a number")
            return None

    def strings(self, what: str) -> list[str]:
        return [
            item.value(f"each of {what}", str) for item in self.items(what) if isinstance(item.node, yaml.ScalarNode)
        ]


def read(file: Path, mistakes: Mistakes, may_be_empty: bool = False) -> Part | None:
    """A file's document; None, and the mistakes, if it cannot be read or is no YAML. An empty one may be no mistake."""
    try:
        if file.stat().st_size > _LARGEST:
            mistakes.add(file, 1, f"too large for a configuration: more than {_LARGEST >> 20} MiB")
            return None
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        mistakes.add(file, 1, "this is no text in UTF-8")
        return None
    except OSError as problem:
        mistakes.add(file, 1, f"cannot be read: {problem.strerror}")
        return None
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        mistakes.add(file, mark.line + 1 if mark else 1, f"this is no YAML: {problem.problem or problem.context}")
        return None
    except (yaml.YAMLError, RecursionError) as problem:
        mistakes.add(file, 1, f"this is no YAML: {str(problem).splitlines()[0]}")
        return None
    if node is None:
        if not may_be_empty:
            mistakes.add(file, 1, "the file is empty")
        return None
    for count, depth in enumerate(_depths(node)):
        if depth > _DEEPEST or count > _MOST:
            mistakes.add(file, 1, f"nested deeper than {_DEEPEST}, or grows without end by its aliases")
            return None
    return Part(node, file, mistakes)


def _depths(root: yaml.Node) -> Iterator[int]:
    """The depth of every node, without recursion; does not end for a document that contains itself."""
    todo = [(root, 0)]
    while todo:
        node, depth = todo.pop()
        yield depth
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                todo += [(key, depth + 1), (value, depth + 1)]
        elif isinstance(node, yaml.SequenceNode):
            todo += [(item, depth + 1) for item in node.value]
