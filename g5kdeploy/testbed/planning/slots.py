"""The earliest moment at which enough nodes of every kind are free at once.

A node's jobs are turned into the moments at which a job of the wanted length could begin on it. One sweep over those of
all nodes finds the first moment at which every kind has its nodes: O(E log E) for E jobs on nodes, where trying every
moment on every node costs O(E²).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

Span = tuple[float, float]
"""From when until when, unix time."""

_AT = itemgetter(0)


@dataclass(frozen=True)
class Need:
    """So many nodes out of these; `disks`: together with their further disks."""

    count: int
    nodes: frozenset[str]
    disks: bool = False


def starts(spans: Iterable[Span], first: float, last: float, length: float) -> list[Span]:
    """When a job of `length` seconds can begin on a node, within `first..last` (both included); O(spans).

    `spans` are when the node is held, sorted by their begin; they may overlap.
    """
    found: list[Span] = []
    cursor = first
    for begin, end in spans:
        if end <= cursor:
            continue
        latest = begin - length
        if latest >= last:
            break
        if latest >= cursor:
            found.append((cursor, latest))
        cursor = end
        if cursor > last:
            return found
    found.append((cursor, last))
    return found


def merged(needs: Sequence[Need]) -> list[Need]:
    """The same needs, those of the same nodes together."""
    counts: dict[tuple[frozenset[str], bool], int] = {}
    for need in needs:
        counts[need.nodes, need.disks] = counts.get((need.nodes, need.disks), 0) + need.count
    return [Need(count, nodes, disks) for (nodes, disks), count in counts.items()]


class Supply:
    """Whether the free nodes can serve all needs at once, by Hall's theorem; O(2^kinds) for a node, at most.

    Every set of kinds must have as many free nodes, that will do for any of them, as those kinds need together.
    """

    def __init__(self, demands: Sequence[int]) -> None:
        sets = range(1, 1 << len(demands))
        self._missing = [0] + [sum(n for kind, n in enumerate(demands) if one >> kind & 1) for one in sets]
        self._sets = {mask: [one for one in sets if one & mask] for mask in sets}
        self._short = sum(missing > 0 for missing in self._missing)

    @property
    def enough(self) -> bool:
        return self._short == 0

    def add(self, mask: int) -> None:
        for one in self._sets[mask]:
            self._missing[one] -= 1
            if self._missing[one] == 0:
                self._short -= 1

    def drop(self, mask: int) -> None:
        for one in self._sets[mask]:
            if self._missing[one] == 0:
                self._short += 1
            self._missing[one] += 1


def masks(needs: Sequence[Need]) -> dict[str, int]:
    """Which kinds each node will do for, as bits."""
    found: dict[str, int] = {}
    for kind, need in enumerate(needs):
        for node in need.nodes:
            found[node] = found.get(node, 0) | 1 << kind
    return found


def first_fit(
    needs: Sequence[Need], windows: Mapping[str, Sequence[Span]], with_disks: Mapping[str, Sequence[Span]] | None = None
) -> float | None:
    """The earliest moment at which all needs are met; None when never.

    `windows` are each node's possible starts; `with_disks` those of a node with its disks, where they are not the same.
    """
    kinds = merged(needs)
    supply = Supply([kind.count for kind in kinds])
    for_disks = sum(1 << number for number, kind in enumerate(kinds) if kind.disks)
    opening: list[tuple[float, str, int]] = []
    closing: list[tuple[float, str, int]] = []
    for node, mask in masks(kinds).items():
        apart = mask & for_disks if with_disks and node in with_disks else 0
        for part, spans in ((mask & ~apart, windows), (apart, with_disks)):
            if part and spans:
                for begin, end in spans.get(node, ()):
                    opening.append((begin, node, part))
                    closing.append((end, node, part))
    opening.sort(key=_AT)
    closing.sort(key=_AT)
    serves: dict[str, int] = {}
    closed, number, total = 0, 0, len(opening)
    while number < total:
        moment = opening[number][0]
        while closing[closed][0] < moment:
            _, node, part = closing[closed]
            _serve(supply, serves, node, serves[node] & ~part)
            closed += 1
        while number < total and opening[number][0] == moment:
            _, node, part = opening[number]
            _serve(supply, serves, node, serves.get(node, 0) | part)
            number += 1
        if supply.enough:
            return moment
    return None


def _serve(supply: Supply, serves: dict[str, int], node: str, mask: int) -> None:
    """From now on a node will do for these kinds."""
    if before := serves.get(node):
        supply.drop(before)
    if mask:
        supply.add(mask)
    serves[node] = mask
