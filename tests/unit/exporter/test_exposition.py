from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.utils import floatToGoString

from g5kdeploy.exporter.config import Histogram
from g5kdeploy.exporter.exposition import Family, HistogramText, number, pairs
from g5kdeploy.exporter.histogram import cumulate

LABEL_VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=20)
HELP = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=30).map(str.strip)


def written(family: Family, openmetrics: bool) -> str:
    return "".join(family.text(openmetrics)) + ("# EOF\n" if openmetrics else "")


@settings(deadline=None)
@given(st.dictionaries(st.tuples(LABEL_VALUES, LABEL_VALUES), st.integers(0, 2**53), min_size=1, max_size=5), HELP)
def test_counters_are_read_back_as_they_were(rows: dict[tuple[str, str], int], help_: str) -> None:
    family = Family("x_total", help_, "counter")
    family.lines = [f"{{{pairs(['a', 'b'], labels)}}} {value}" for labels, value in rows.items()]
    for openmetrics, read in ((False, read_text), (True, read_openmetrics)):
        (found,) = read(written(family, openmetrics))
        assert found.type == "counter" and found.name == "x"
        assert {(s.labels["a"], s.labels["b"]): s.value for s in found.samples} == rows
        assert {s.name for s in found.samples} == {"x_total"}


HISTOGRAMS = st.one_of(
    st.tuples(st.sampled_from(["exp2", "exp2zero", "linear"]), st.integers(0, 10), st.integers(1, 30)).map(
        lambda drawn: (drawn[0], tuple(range(drawn[1], drawn[1] + drawn[2] + 1)))
    ),
    st.sets(st.integers(0, 10**6), min_size=1, max_size=20).map(lambda keys: ("fixed", tuple(sorted(keys)))),
)


@settings(deadline=None)
@given(HISTOGRAMS, st.sampled_from([1.0, 1e-9, 1e-6, 0.5, 1000.0]), st.data())
def test_histograms_are_cumulative_and_exact(
    shape: tuple[str, tuple[int, ...]], multiplier: float, data: st.DataObject
) -> None:
    kind, keys = shape
    histogram = Histogram("h", "H", (), kind, keys, multiplier)
    values = data.draw(st.dictionaries(st.sampled_from(keys), st.integers(0, 2**40)))
    total_sum = data.draw(st.integers(0, 2**60))
    counts, total, sum_, strays = cumulate(histogram, values | {histogram.sum_key: total_sum})
    assert total == sum(values.values()) and sum_ == total_sum * multiplier and strays == 0
    assert counts == sorted(counts) and counts[-1] == total

    family = Family("h", "H", "histogram", list(HistogramText(histogram).lines('a="1"', counts, total, sum_)))
    for openmetrics, read in ((False, read_text), (True, read_openmetrics)):
        (found,) = read(written(family, openmetrics))
        buckets = [s for s in found.samples if s.name == "h_bucket"]
        assert [float(s.labels["le"]) for s in buckets] == [*histogram.bounds(), math.inf]
        assert [s.value for s in buckets] == [*counts, total]
        ends = {s.name: s.value for s in found.samples if s.name != "h_bucket"}
        assert ends == {"h_sum": sum_, "h_count": total}


def test_events_outside_the_buckets_are_told() -> None:
    histogram = Histogram("h", "H", (), "exp2", (3, 4, 5), 1.0)
    counts, total, sum_, strays = cumulate(histogram, {2: 7, 4: 1, 6: 100, 9: 2})
    assert (counts, total, sum_, strays) == ([0, 1, 1], 1, 100.0, 9)


@settings(deadline=None)
@given(st.floats(min_value=0, max_value=1e9, allow_subnormal=False))
def test_numbers_are_written_as_prometheus_client_writes_them(value: float) -> None:
    assert number(value) == floatToGoString(value)


@given(st.floats(allow_nan=False))
def test_numbers_lose_nothing(value: float) -> None:
    assert float(number(value)) == value


def test_special_numbers() -> None:
    assert [number(x) for x in (math.inf, -math.inf, math.nan, 7, 2**63)] == ["+Inf", "-Inf", "NaN", "7", str(2**63)]


def test_a_counter_without_total_stays_readable_as_openmetrics() -> None:
    family = Family("seconds", "Sum", "counter", [" 1"])
    (found,) = read_openmetrics(written(family, True))
    assert found.type == "unknown" and found.samples[0].name == "seconds"
