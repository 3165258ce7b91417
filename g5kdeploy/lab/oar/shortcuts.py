"""Grid'5000's short forms of filters, written out as SQL: `paradoxe`, `host=paradoxe-1`, `cluster in (a, b)`, `a | b`."""

from __future__ import annotations

import re

from g5kdeploy.lab.oar.inventory import Inventory
from g5kdeploy.lab.oar.pglexer import RESERVED, STRING

_TOKEN = re.compile(
    rf"(?P<space>\s+)|(?P<string>[eE]?{STRING})|(?P<number>\d[\w.]*)|(?P<word>[^\W\d]\w*(?:-\d+)?(?:\.[\w-]+)*)"
    r"|(?P<operator>[<>=!~&|]+)|(?P<other>.)",
    re.DOTALL,
)
_COMPARISONS = frozenset({"=", "<>", "!=", "<", ">", "<=", ">=", "~", "like", "ilike"})
_KEYWORDS = RESERVED | {"between", "is", "similar"}
_HOSTS = frozenset({"host", "network_address"})
_JOINS = {"&": "AND", "|": "OR"}


def expand(text: str, inventory: Inventory) -> str:
    """A filter with its short forms written out; one that has none, or is no SQL, comes back as it is.

    The name of a cluster or node stands for the comparison with it. Words that are compared with something are texts,
    and short names of nodes are completed. `&` and `|` join conditions.
    """
    hosts = {name.partition(".")[0]: name for name in inventory.nodes}
    clusters = {str(one.properties["cluster"]) for one in inventory.by_id.values() if "cluster" in one.properties}
    written: list[str] = []
    column = before = ""
    listing = False
    for token in _TOKEN.finditer(text):
        kind, word = str(token.lastgroup), token[0]
        if kind == "space":
            written.append(word)
            continue
        compared = before in _COMPARISONS or listing
        name = word[1:-1] if kind == "string" else word
        if compared and column in _HOSTS and kind in ("string", "word") and name in hosts:
            word = f"'{hosts[name]}'"
        elif kind == "word" and name.lower() not in inventory.columns and name.lower() not in _KEYWORDS:
            if compared:
                word = f"'{name}'"
            elif name in clusters:
                word = f"(cluster='{name}')"
            elif name in hosts or name in inventory.nodes:
                word = f"(host='{hosts.get(name, name)}')"
        elif word in _JOINS:
            word = _pad(_JOINS[word], text, token)
        if kind == "word" and name.lower() in inventory.columns:
            column = name.lower()
        listing = (listing or (name == "(" and before == "in")) and name != ")"
        before = name.lower()
        written.append(word)
    return "".join(written)


def _pad(word: str, text: str, token: re.Match[str]) -> str:
    """A keyword in place of a sign, apart from its neighbours."""
    left = "" if text[: token.start()][-1:].isspace() else " "
    right = "" if text[token.end() :][:1].isspace() else " "
    return f"{left}{word}{right}"
