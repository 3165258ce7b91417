"""From a histogram's map to cumulative buckets."""

from __future__ import annotations

from collections.abc import Mapping

from .config import Histogram


def cumulate(histogram: Histogram, values: Mapping[int, int]) -> tuple[list[int], int, float, int]:
    """(cumulative count of each bucket, count of all, sum in the metric's unit, count at keys that are no bucket's).

    O(buckets). The sum is exact in the map's unit and multiplied once.
    """
    total = 0
    counts = []
    for key in histogram.keys:
        total += values.get(key, 0)
        counts.append(total)
    strays = sum(values.values()) - values.get(histogram.sum_key, 0) - total
    return counts, total, values.get(histogram.sum_key, 0) * histogram.multiplier, strays
