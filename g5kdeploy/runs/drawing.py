"""A histogram as a picture that needs nothing but the page it stands in."""

from __future__ import annotations

import math

from g5kdeploy.runs.samples import Bucket, Histogram

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 36, 24, 46

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def seconds_text(value: float) -> str:
    """A time as a person reads it on an axis: 512 ns, 1.02 µs, 2 s."""
    if math.isinf(value):
        return "∞"
    if math.isnan(value):
        return "-"
    for size, unit in _SECONDS:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns" if value else "0"


def bound_text(value: float, metric: str) -> str:
    """A bucket's bound, in seconds if the metric is."""
    if metric.endswith("_seconds"):
        return seconds_text(value)
    return "∞" if math.isinf(value) else f"{value:.6g}"


def svg(histogram: Histogram) -> str:
    """Bars of equal width, one a bucket, from the first to the last that is not empty."""
    from html import escape

    buckets = histogram.trimmed()
    if not buckets:
        return ""
    title = f"{histogram.metric}: {histogram.count:.0f} observations on {histogram.node}"
    top = max(bucket.count for bucket in buckets)
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    step = plot_width / len(buckets)
    every = math.ceil(len(buckets) / 12)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(title)}</title>",
    ]
    for share in (0.0, 0.5, 1.0):
        y = TOP + plot_height * (1 - share)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share:.6g}</text>')
    for index, bucket in enumerate(buckets):
        parts.append(_bar(bucket, histogram.metric, LEFT + index * step, step, plot_height * bucket.count / top))
        if index % every == 0:
            x, text = LEFT + (index + 1) * step, bound_text(bucket.high, histogram.metric)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{text}</text>')
    unit = "upper bound of the bucket (≤)"
    parts.append(f'<text x="{LEFT + plot_width / 2}" y="{HEIGHT - 6}" text-anchor="middle">{unit}</text></svg>')
    return "\n".join(parts)


def _bar(bucket: Bucket, metric: str, x: float, step: float, height: float) -> str:
    tip = f"{bound_text(bucket.low, metric)} to {bound_text(bucket.high, metric)}: {bucket.count:.0f}"
    shown = max(height, 1.0 if bucket.count else 0.0)
    return (
        f'<rect class="bar" x="{x + 1:.1f}" width="{max(1.0, step - 2):.1f}" '
        f'y="{HEIGHT - BOTTOM - shown:.1f}" height="{shown:.1f}"><title>{tip}</title></rect>'
    )
