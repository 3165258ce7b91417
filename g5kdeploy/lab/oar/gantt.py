"""Which resources are free when: the plan in which the scheduler looks for the first hole."""

from __future__ import annotations

from bisect import bisect_right

from g5kdeploy.lab.oar.inventory import Mask, Wish

SECURITY = 60
"""Seconds that the scheduler keeps free after each job."""


class Gantt:
    """The free resources over time, from `start` (unix seconds) to forever, in stretches of constant freedom."""

    def __init__(self, start: int, free: Mask) -> None:
        self._starts = [start]
        self._free = [free]

    def free_during(self, start: int, seconds: int) -> Mask:
        """The resources that are free in each second from `start` on, `seconds` of them."""
        index = max(bisect_right(self._starts, start) - 1, 0)
        free = self._free[index]
        last = len(self._starts)
        index += 1
        while free and index < last and self._starts[index] < start + seconds:
            free &= self._free[index]
            index += 1
        return free

    def occupy(self, start: int, seconds: int, mask: Mask) -> None:
        """Take resources from `start` to `start + seconds`, both included: what follows begins a second later."""
        first, last = self._cut(start), self._cut(start + max(seconds, 0) + 1)
        for index in range(first, last):
            self._free[index] &= ~mask

    def release(self, start: int, seconds: int, mask: Mask) -> None:
        """Give resources for that time: how the inside of a container job begins."""
        first, last = self._cut(start), self._cut(start + max(seconds, 0))
        for index in range(first, last):
            self._free[index] |= mask

    def _cut(self, moment: int) -> int:
        """Make a stretch begin at `moment`; its index."""
        if moment <= self._starts[0]:
            return 0
        index = bisect_right(self._starts, moment) - 1
        if self._starts[index] == moment:
            return index
        self._starts.insert(index + 1, moment)
        self._free.insert(index + 1, self._free[index])
        return index + 1

    def first_hole(self, earliest: int, seconds: int, wish: Wish) -> tuple[int, Mask] | None:
        """The first moment, not before `earliest`, from which a wish can be had for `seconds`, and its resources."""
        index = max(bisect_right(self._starts, earliest) - 1, 0)
        moment = max(earliest, self._starts[0])
        while True:
            if wish.may_fit(self._free[index]):
                free = self.free_during(moment, seconds)
                if wish.may_fit(free) and (taken := wish.choose(free)):
                    return moment, taken
            index += 1
            if index == len(self._starts):
                return None
            moment = self._starts[index]
