"""The same question to several places at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from g5kdeploy.base.problem import Problem

K = TypeVar("K")
V = TypeVar("V")
_AT_ONCE = 12


def ask_all(keys: Iterable[K], question: Callable[[K], V]) -> dict[K, V | Problem]:
    """The answer for each key, or the problem that came instead; in the order of the keys."""
    wanted = list(dict.fromkeys(keys))

    def one(key: K) -> V | Problem:
        try:
            return question(key)
        except Problem as problem:
            return problem

    if not wanted:
        return {}
    with ThreadPoolExecutor(min(_AT_ONCE, len(wanted)), thread_name_prefix="api") as pool:
        return dict(zip(wanted, pool.map(one, wanted), strict=True))


def ask_all_or_fail(keys: Iterable[K], question: Callable[[K], V]) -> dict[K, V]:
    """The answer for each key; the first problem is raised."""
    found: dict[K, V] = {}
    for key, answer in ask_all(keys, question).items():
        if isinstance(answer, Problem):
            raise answer
        found[key] = answer
    return found
