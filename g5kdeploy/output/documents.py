"""Answers as documents: `apiVersion`, `kind`, lists under `items`; and the forms in which `-o` prints them."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from g5kdeploy.base.text import clean

API_VERSION = "g5kdeploy/v1"


def listing(kind: str, items: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A document that is a list; `more` are further members beside `items`."""
    return {"apiVersion": API_VERSION, "kind": kind, **more, "items": [dict(item) for item in items]}


def single(kind: str, **members: Any) -> dict[str, Any]:
    """A document that is one thing."""
    return {"apiVersion": API_VERSION, "kind": kind, **members}


def render(document: Mapping[str, Any], form: str = "table", columns: Sequence[str] = (), color: bool = False) -> str:
    """The document as text, without the last newline. `columns` are a table's; `wide` shows all there are."""
    if form == "json":
        return json.dumps(document, indent=2, ensure_ascii=False, default=str)
    if form == "yaml":
        import yaml

        plain = json.loads(json.dumps(document, default=str))
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1000).rstrip("\n")
    items = _items(document)
    if form == "jsonl":
        return "\n".join(json.dumps(item, ensure_ascii=False, default=str) for item in items)
    if form == "name":
        return "\n".join(_cell(item.get("name", item.get("id", next(iter(item.values()), "")))) for item in items)
    if form == "csv":
        return _csv(items, _columns(items, ()))
    chosen = _columns(items, () if form == "wide" else columns)
    if "items" not in document:
        return _facts(items[0], chosen)
    return _table(items, chosen, color)


def _items(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "items" in document:
        return [dict(item) for item in document["items"]]
    return [{key: value for key, value in document.items() if key not in ("apiVersion", "kind")}]


def _columns(items: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> list[str]:
    return list(wanted) or list(dict.fromkeys(key for item in items for key in item))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_cell(part)}" for key, part in value.items())
    return clean(str(value))


def _csv(items: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(item.get(column)) for column in columns] for item in items)
    return out.getvalue().rstrip("\n")


def _table(items: Sequence[Mapping[str, Any]], columns: Sequence[str], color: bool = False) -> str:
    """Columns padded with two spaces between them; never cut, so that other programs can read it."""
    if not items:
        return ""
    rows = [[_cell(item.get(column)).replace("\n", " ") for column in columns] for item in items]
    head = [column.replace("_", " ").upper() for column in columns]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    title = "  ".join(cell.ljust(width) for cell, width in zip(head, widths, strict=True)).rstrip()
    return "\n".join([f"\x1b[1m{title}\x1b[0m" if color else title, *lines])


def _facts(item: Mapping[str, Any], columns: Sequence[str]) -> str:
    """A line a fact; what has facts of its own is a heading with these beneath it."""
    width = max((len(column) for column in columns if not isinstance(item.get(column), Mapping)), default=0)
    lines = []
    for column in columns:
        value = item.get(column)
        if isinstance(value, Mapping) and value:
            lines += [column, textwrap.indent(_facts(value, list(value)), "  ")]
        else:
            lines.append(f"{column.replace('_', ' ').ljust(width)}  {_cell(value) or '-'}")
    return "\n".join(lines)
