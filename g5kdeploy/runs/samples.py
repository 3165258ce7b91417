"""Statistics of the samples in a run folder: what each counter grew by, and the histograms that came of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Series = tuple[str, str, str]  # node, metric, labels as JSON


@dataclass(frozen=True)
class Growth:
    """What one counter grew by over all scrapes of its node."""

    node: str
    metric: str
    labels: Mapping[str, str]
    first: float
    last: float
    increase: float


@dataclass(frozen=True)
class Bucket:
    """Observations in (`low`, `high`]; bounds in the metric's unit, the last `high` is infinite."""

    low: float
    high: float
    count: float


@dataclass(frozen=True)
class Histogram:
    """A histogram's growth over all scrapes of its node."""

    node: str
    metric: str
    labels: Mapping[str, str]
    buckets: tuple[Bucket, ...]
    count: float
    sum: float

    def mean(self) -> float:
        """The mean of the observations; NaN when there are none."""
        return self.sum / self.count if self.count else math.nan

    def quantile(self, q: float) -> float:
        """The value below which the part `q` lies, interpolated in its bucket as Prometheus does it; NaN when empty."""
        wanted, seen = q * self.count, 0.0
        for bucket in self.buckets:
            if bucket.count and seen + bucket.count >= wanted:
                if math.isinf(bucket.high):
                    return bucket.low
                return bucket.low + (bucket.high - bucket.low) * max(0.0, wanted - seen) / bucket.count
            seen += bucket.count
        return math.nan

    def trimmed(self) -> tuple[Bucket, ...]:
        """The buckets from the first to the last one that is not empty."""
        full = [index for index, bucket in enumerate(self.buckets) if bucket.count]
        return self.buckets[full[0] : full[-1] + 1] if full else ()


@dataclass
class Samples:
    """All samples of a run, as growths by series; `scrapes` counts those that came through, per node."""

    count: int = 0
    scrapes: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    growths: dict[Series, Growth] = field(default_factory=dict)

    def increase(self, metric: str, node: str | None = None, **labels: str) -> float:
        """What the counters of that name and with (at least) those labels grew by together."""
        return sum(
            growth.increase
            for growth in self.growths.values()
            if growth.metric == metric
            and node in (None, growth.node)
            and all(growth.labels.get(name) == value for name, value in labels.items())
        )

    def histograms(self) -> list[Histogram]:
        """Every histogram that has observations, the fullest first."""
        found: dict[Series, list[tuple[float, float]]] = {}
        for growth in self.growths.values():
            if growth.metric.endswith("_bucket") and "le" in growth.labels:
                rest = {name: value for name, value in growth.labels.items() if name != "le"}
                series = (growth.node, growth.metric.removesuffix("_bucket"), _labels(rest))
                found.setdefault(series, []).append((_number(growth.labels["le"]), growth.increase))
        made = [self._histogram(series, bounds) for series, bounds in found.items()]
        return sorted((one for one in made if one.count), key=lambda one: (-one.count, one.node, one.metric))

    def _histogram(self, series: Series, bounds: Sequence[tuple[float, float]]) -> Histogram:
        node, metric, labels = series
        buckets: list[Bucket] = []
        low, below = 0.0, 0.0
        for high, cumulative in sorted(bounds):
            buckets.append(Bucket(low, high, max(0.0, cumulative - below)))
            low, below = high, max(below, cumulative)
        total = self.growths.get((node, f"{metric}_sum", labels))
        count = self.growths.get((node, f"{metric}_count", labels))
        return Histogram(
            node,
            metric,
            json.loads(labels),
            tuple(buckets),
            count.increase if count else below,
            total.increase if total else math.nan,
        )


def read(folder: Path) -> Samples:
    """The samples in a folder of Parquet files; none when there are no files. O(samples)."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        return Samples()
    import pyarrow as pa
    import pyarrow.parquet as parquet

    columns = ["time", "node", "metric", "labels", "value"]
    table = pa.concat_tables([parquet.read_table(file, columns=columns) for file in files])
    table = table.sort_by([("time", "ascending")])
    times, nodes, metrics, labels, values = (table.column(name).to_pylist() for name in columns)
    return of_rows(zip(times, nodes, metrics, labels, values, strict=True))


def of_rows(rows: Iterable[tuple[Any, str, str, str, float]]) -> Samples:
    """From rows (time, node, metric, labels, value) in the order of time.

    A counter that a node's first good scrape does not show started at 0; one that falls was reset to 0 between.
    """
    samples = Samples()
    seen: dict[Series, tuple[float, float, float]] = {}  # first, last, increase
    first_good: dict[str, Any] = {}
    for time, node, metric, labels, value in rows:
        samples.count += 1
        if metric == "up":
            counts = samples.scrapes if value == 1 else samples.failed
            counts[node] = counts.get(node, 0) + 1
            continue
        first_good.setdefault(node, time)
        series = (node, metric, labels)
        if series not in seen:
            start = value if time == first_good[node] else 0.0
            seen[series] = (start, value, value - start)
            continue
        first, last, increase = seen[series]
        seen[series] = (first, value, increase + (value - last if value >= last else value))
    for (node, metric, labels), (first, last, increase) in seen.items():
        pairs = json.loads(labels)
        samples.growths[node, metric, _labels(pairs)] = Growth(node, metric, pairs, first, last, increase)
    return samples


def _labels(pairs: Mapping[str, str]) -> str:
    return json.dumps(pairs, sort_keys=True, ensure_ascii=False)


def _number(bound: str) -> float:
    return math.inf if bound == "+Inf" else float(bound)
