"""Things that hang on other things, drawn as text: a tree for people, and the language of Graphviz."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass
class Branch:
    """A line of a tree and what hangs on it."""

    label: str
    children: list[Branch] = field(default_factory=list)

    def add(self, label: str) -> Branch:
        """One more that hangs on it."""
        child = Branch(label)
        self.children.append(child)
        return child

    def lines(self) -> list[str]:
        """The tree, a line each; box characters show what hangs on what."""
        found = [self.label]
        for number, child in enumerate(self.children):
            last = number == len(self.children) - 1
            first, *rest = child.lines()
            found.append(f"{'└─' if last else '├─'} {first}")
            found += [f"{'  ' if last else '│ '} {line}" for line in rest]
        return found


@dataclass(frozen=True)
class Edge:
    """A line between two boxes of a graph, by their keys, with its label."""

    one: str
    other: str
    label: str = ""


def dot(title: str, boxes: Sequence[tuple[str, str, str]], edges: Iterable[Edge]) -> str:
    """An undirected graph for Graphviz's `dot`; boxes are (key, label, shape)."""
    lines = [f"graph {_quoted(title)} {{", '  graph [rankdir="LR"];', '  node [fontname="sans-serif"];']
    lines += [f"  {_quoted(key)} [label={_quoted(label)}, shape={_quoted(shape)}];" for key, label, shape in boxes]
    lines += [f"  {_quoted(edge.one)} -- {_quoted(edge.other)} [label={_quoted(edge.label)}];" for edge in edges]
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
