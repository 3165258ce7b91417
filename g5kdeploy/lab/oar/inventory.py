"""The site's resources as sets: filters in SQL, and the hierarchy cluster > host > core in which they are asked for.

A set of resources is an int with bit `id` set for each: intersections over a whole site cost microseconds.
"""

from __future__ import annotations

import functools
import operator
import random
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from g5kdeploy.lab.oar import pgfilter, pgtext, pgvalues
from g5kdeploy.lab.oar.grammar import ALL, BEST, BESTHALF, Group
from g5kdeploy.lab.oar.model import NodeState, Resource, Value

Mask = int

OWN_COLUMNS = (
    "resource_id",
    "type",
    "network_address",
    "state",
    "host",
    "maintenance",
    "exotic",
    "deploy",
    "besteffort",
    "production",
    "next_state",
    "finaud_decision",
    "next_finaud_decision",
    "suspended_jobs",
    "desktop_computing",
    "drain",
    "cpuset",
)
NUMBERS = {
    "state_num": 0,
    "scheduler_priority": 0,
    "expiry_date": 0,
    "last_job_date": 0,
    "available_upto": 2**31 - 1,
    "last_available_upto": 0,
}
"""OAR's own columns of numbers, and what they are when nobody says so."""


def _regexp(pattern: str, text: object) -> bool:
    return bool(re.search(pattern, str(text)))


def _similar(pattern: str, text: object) -> bool:
    """SQL's own kind of pattern: `%` and `_` as in LIKE, the rest as in a regular expression."""
    words = {"%": ".*", "_": ".", ".": r"\.", "^": r"\^", "$": r"\$"}
    return bool(re.fullmatch("".join(words.get(one, one) for one in pattern), str(text)))


def _mod(one: int, other: int) -> int:
    return one % other


def _split_part(text: str, separator: str, number: int) -> str:
    return [*text.split(separator), *[""] * number][number - 1]


def _chance() -> float:
    return random.random()  # noqa: S311 - a user's wish


FUNCTIONS: dict[str, Any] = {
    "regexp": _regexp,
    "similar": _similar,
    "mod": _mod,
    "split_part": _split_part,
    "chance": _chance,
}
"""What PostgreSQL has and SQLite has not."""
_LETTERS = re.compile(r"[^0-9.]*")
"""What an address begins with: that of a cluster's nodes."""
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)


@dataclass(frozen=True)
class Tree:
    """Resources grouped by one level: `count` of `branches` are wanted; a tree without branches is wanted whole."""

    mask: Mask
    least: int
    """No fewer resources than this can do: most that is not free is seen by counting bits."""
    count: int = ALL
    branches: tuple[Tree, ...] = ()


def bits(mask: Mask) -> Iterator[int]:
    """The ids in a set, ascending."""
    digits = bin(mask)[:1:-1]
    at = digits.find("1")
    while at >= 0:
        yield at
        at = digits.find("1", at + 1)


def mask_of(ids: Iterable[int]) -> Mask:
    """The set of these ids."""
    return functools.reduce(operator.or_, (1 << i for i in ids), 0)


def choose(tree: Tree, free: Mask) -> Mask:
    """The first resources in order that satisfy the tree within `free`; 0 when there are not enough."""
    have = tree.mask & free
    if not tree.branches:
        return tree.mask if have and have == tree.mask else 0
    if tree.count == 0 or have.bit_count() < tree.least:
        return 0
    taken, found = 0, 0
    for branch in tree.branches:
        # nearly all of a pass is spent here: no call for a leaf
        got = choose(branch, have) if branch.branches else branch.mask * (branch.mask & have == branch.mask)
        if got:
            taken |= got
            found += 1
            if found == tree.count:
                return taken
        elif tree.count == ALL:
            return 0
    return taken if tree.count in (ALL, BEST) or (tree.count == BESTHALF and found) else 0


@dataclass(frozen=True)
class Wish:
    """All that one alternative of a job wants, as one tree for each of its groups."""

    trees: tuple[Tree, ...]

    def may_fit(self, free: Mask) -> bool:
        """A quick look: False when there are too few resources, whichever they are."""
        return all((tree.mask & free).bit_count() >= tree.least for tree in self.trees)

    def choose(self, free: Mask) -> Mask:
        """Resources for every group, none of them twice; 0 when one of them cannot be had."""
        taken = 0
        for tree in self.trees:
            got = choose(tree, free & ~taken)
            if not got:
                return 0
            taken |= got
        return taken


class Inventory:
    """Resources, their states and their properties. Not thread-safe; its owner locks."""

    def __init__(self, resources: Iterable[Resource], states: Mapping[str, NodeState]) -> None:
        """states: of the nodes, by address, where they differ from what `resources` say."""
        self.by_id = {r.id: replace(r, state=states.get(r.address, r.state)) for r in resources}
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self.columns: Mapping[str, str] = self._fill()
        self._database.set_authorizer(_only_reading)
        self._trees: dict[tuple[Group, str, bool], Tree] = {}
        self._priorities: dict[int, int] = {}
        order = sorted(self.by_id.values(), key=lambda one: (_LETTERS.match(one.address)[0], one.id))  # type: ignore[index]
        self._ranks = {one.id: rank for rank, one in enumerate(order)}
        self._named: dict[Mask, tuple[Resource, ...]] = {}
        self._sort()

    def _fill(self) -> dict[str, str]:
        """Load the properties into a table; the columns' types by name."""
        names = dict.fromkeys([*OWN_COLUMNS, *NUMBERS])
        for resource in self.by_id.values():
            names.update(dict.fromkeys(name.lower() for name in resource.properties))
        rows = [_row(resource) for resource in self.by_id.values()]
        kinds = {name: "INTEGER" if name in NUMBERS else _kind(row.get(name) for row in rows) for name in names}
        for name, function in FUNCTIONS.items():
            self._database.create_function(name, function.__code__.co_argcount, function)
        self._database.execute("PRAGMA case_sensitive_like = ON")
        columns = ", ".join(f'"{name}" {kind}' for name, kind in kinds.items())
        self._database.execute(f"CREATE TABLE resources ({columns})")
        places = ", ".join("?" for _ in names)
        insert = f"INSERT INTO resources VALUES ({places})"  # noqa: S608 - names of columns, not from users
        self._database.executemany(insert, [[row.get(name) for name in names] for row in rows])
        self._database.commit()
        types = {name: pgvalues.INTEGER if kind == "INTEGER" else pgvalues.TEXT for name, kind in kinds.items()}
        return types | {"resource_id": pgvalues.BIGINT}

    def _sort(self) -> None:
        """Recompute the sets by state."""
        by_state: dict[str, Mask] = {}
        self.nodes: dict[str, Mask] = {}
        for number, resource in self.by_id.items():
            by_state[resource.state] = by_state.get(resource.state, 0) | 1 << number
            if resource.address:
                self.nodes[resource.address] = self.nodes.get(resource.address, 0) | 1 << number
        self.alive = by_state.get("Alive", 0)
        self.usable = self.alive | by_state.get("Standby", 0)
        self.dead = by_state.get("Dead", 0)
        self.everything = mask_of(self.by_id)
        self._named.clear()

    def set_state(self, address: str, state: NodeState) -> Mask:
        """Change the state of all resources at an address; the set of them."""
        mask = self.nodes.get(address, 0)
        for number in bits(mask):
            self.by_id[number] = replace(self.by_id[number], state=state)
        self._database.set_authorizer(None)
        self._database.execute("UPDATE resources SET state = ? WHERE network_address = ?", (state, address))
        self._database.commit()
        self._database.set_authorizer(_only_reading)
        self._trees.clear()
        self._sort()
        return mask

    def named(self, mask: Mask) -> tuple[Resource, ...]:
        """The resources of a set, by id; one that the site no longer has is left out."""
        if mask not in self._named:
            self._named[mask] = tuple(self.by_id[i] for i in bits(mask) if i in self.by_id)
        return self._named[mask]

    def spare(self, used: Iterable[tuple[Mask, int]]) -> None:
        """Let nodes with jobs that give way or share their time be taken last: (resources, weight) of each such job."""
        priorities: dict[int, int] = {}
        for mask, weight in used:
            nodes = [self.nodes[address] for address in {one.address for one in self.named(mask)} & self.nodes.keys()]
            for number in [*bits(functools.reduce(operator.or_, nodes, 0)), *bits(mask), *bits(mask)]:
                priorities[number] = priorities.get(number, 0) + 2 * weight
        if priorities != self._priorities:
            self._priorities = priorities
            self._trees.clear()

    def tree(self, group: Group, properties: str, ahead: bool = False) -> Tree:
        """What a group asks for among the resources that are not dead, the best ones first. Raises `pgtext.BadFilter`.

        `ahead`: for a time at which nobody knows yet which those are.
        """
        key = (group, properties, ahead)
        if key not in self._trees:
            rows = self._select(group, properties)
            living = [row for row in rows if not self.dead >> int(row[-1] or 0) & 1]
            living.sort(key=lambda row: self._preference(int(row[-1] or 0), ahead))
            self._trees[key] = _grow(living, [count for _, count in group.levels], 0)
        return self._trees[key]

    def _preference(self, number: int, ahead: bool) -> tuple[int, bool, int]:
        """The smaller, the sooner a resource is taken."""
        if ahead:
            return 0, False, self._ranks[number]
        return self._priorities.get(number, 0), not self.alive >> number & 1, self._ranks[number]

    def _select(self, group: Group, properties: str) -> list[tuple[Value, ...]]:
        """(level value, ..., resource id) of each resource that passes the filters, by id."""
        levels = [name for name, _ in group.levels]
        if levels[-1] != "resource_id":
            levels.append("resource_id")
        filters = [part for part in (group.filter, properties) if part]
        where = " AND ".join(f"{name} IS NOT NULL" for name in levels)
        if filters:
            both = " AND ".join(f"({part})" for part in filters) if len(filters) > 1 else filters[0]
            where += f" AND ( {both} )"
        query = f"SELECT {','.join(levels)}\nFROM resources\nWHERE\n   {where} AND\n   '1'\n\n"
        try:
            write = pgfilter.translate(query, query.index("WHERE\n") + 6, self.columns)
            for level in levels:
                if level.lower() not in self.columns:
                    raise pgtext.BadFilter(f'column "{level.lower()}" does not exist', query, query.index(level))
            wanted = ", ".join(f'"{level.lower()}"' for level in levels)
            ours = f"SELECT {wanted} FROM resources WHERE {write()} ORDER BY resource_id"  # noqa: S608 - written anew
            return self._database.execute(ours).fetchall()
        except (sqlite3.Error, re.error) as error:
            raise pgtext.BadFilter(str(error), query, None) from error
        except RecursionError as error:
            raise pgtext.BadFilter("stack depth limit exceeded", query, None) from error


def _only_reading(action: int, *_: str | None) -> int:
    """Filters come from users: they may look, and nothing else."""
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _row(resource: Resource) -> dict[str, Value]:
    own: dict[str, Value] = {
        "host": resource.address or None,
        "maintenance": "NO",
        "exotic": "NO",
        "deploy": "YES",
        "besteffort": "YES",
        "production": "NO",
    }
    own |= dict.fromkeys(
        ("finaud_decision", "next_finaud_decision", "suspended_jobs", "desktop_computing", "drain"), "NO"
    )
    own |= {"next_state": "UnChanged", "cpuset": "0", **NUMBERS}
    given = {name.lower(): value for name, value in resource.properties.items()}
    fixed: dict[str, Value] = {
        "resource_id": resource.id,
        "type": resource.type,
        "network_address": resource.address,
        "state": resource.state,
    }
    return own | given | fixed


def _kind(values: Iterable[Value]) -> str:
    kinds = {type(value) for value in values if value is not None}
    return "INTEGER" if kinds and kinds <= {int, bool} else "TEXT"


def _grow(rows: list[tuple[Value, ...]], wanted: list[int], level: int) -> Tree:
    """Group rows by their value at this level, in the order of their first one; drop branches that can never do."""
    mask = mask_of(int(row[-1] or 0) for row in rows)
    if level == len(wanted):
        return Tree(mask, mask.bit_count())
    groups: dict[Value, list[tuple[Value, ...]]] = {}
    for row in rows:
        groups.setdefault(row[level], []).append(row)
    branches = tuple(
        branch
        for branch in (_grow(group, wanted, level + 1) for group in groups.values())
        if choose(branch, branch.mask)
    )
    if not branches:
        return Tree(0, 1)
    count = wanted[level]
    least = sorted(branch.least for branch in branches)
    least = least if count == ALL else least[: count if count > 0 else 1]
    whole = functools.reduce(operator.or_, (branch.mask for branch in branches))
    return Tree(whole, sum(least), count, branches)
