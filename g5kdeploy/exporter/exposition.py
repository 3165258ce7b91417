"""The text that Prometheus reads, written by ourselves for the programs: ten times quicker than a library's objects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .config import Histogram

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def number(value: float) -> str:
    """A number as prometheus-client writes it: whole counts in full, bounds such as 1e-06 in Go's form."""
    if isinstance(value, int):
        return str(value)
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    text = repr(value)
    point = text.find(".")
    if value > 0 and point > 6 and "e" not in text:
        digits = f"{text[0]}.{text[1:point]}{text[point + 1 :]}".rstrip("0.")
        return f"{digits}e+{point - 1:02d}"
    return text


def escape(text: str) -> str:
    """A label value, as it stands between its quotes."""
    if "\\" in text or "\n" in text or '"' in text:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return text


def pairs(names: Sequence[str], values: Sequence[str]) -> str:
    """`a="1",b="2"`, without the braces."""
    return ",".join(f'{name}="{escape(value)}"' for name, value in zip(names, values, strict=True))


@dataclass
class Family:
    """One metric with its samples, ready to be written: each a line's end behind the metric's name."""

    name: str
    help: str
    kind: str
    lines: list[str] = field(default_factory=list)
    """`SUFFIX{labels} value`, where the suffix is empty for a counter: its name ends in _total or not."""

    def text(self, openmetrics: bool) -> Iterable[str]:
        name = self.name
        kind = self.kind
        if openmetrics and kind == "counter":
            # OpenMetrics wants every counter's sample to end in _total, and its family without that.
            if name.endswith("_total"):
                name = name.removesuffix("_total")
            else:
                kind = "unknown"
        help_ = self.help.replace("\\", "\\\\").replace("\n", "\\n")
        if openmetrics:
            help_ = help_.replace('"', '\\"')
        yield f"# HELP {name} {help_}\n# TYPE {name} {'untyped' if kind == 'unknown' and not openmetrics else kind}\n"
        for line in self.lines:
            yield self.name
            yield line
            yield "\n"


class HistogramText:
    """Writes one histogram metric's samples; the bounds are written once."""

    def __init__(self, histogram: Histogram) -> None:
        self._bounds = [number(float(bound)) for bound in histogram.bounds()]

    def lines(self, labels: str, counts: Sequence[int], total: int, sum_: float) -> Iterable[str]:
        """The lines of one label set; `labels` is empty or what `pairs` gave."""
        before = f"_bucket{{{labels}," if labels else "_bucket{"
        for bound, count in zip(self._bounds, counts, strict=True):
            yield f'{before}le="{bound}"}} {count}'
        yield f'{before}le="+Inf"}} {total}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"_sum{braces} {number(sum_)}"
        yield f"_count{braces} {total}"
