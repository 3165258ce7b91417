"""The programs' metrics: maps read, keys decoded, equal rows added, and all of it as lines of text."""

from __future__ import annotations

import logging
from collections import Counter as Count
from collections.abc import Iterator
from pathlib import Path

from .config import Counter, Histogram
from .decoders import DecodeError, Decoders, Rows
from .exposition import Family, HistogramText, number, pairs
from .histogram import cumulate
from .libbpf import LibbpfError
from .loader import Loaded
from .maps import PERCPU, Reader
from .rings import Rings

log = logging.getLogger(__name__)
PREFIX = "ebpf_exporter_"
_STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")


class MetricReader:
    """Reads one metric of one loaded program. Keeps what it decoded, so that a scrape only adds and writes."""

    def __init__(self, loaded: Loaded, metric: Counter | Histogram, reader: Reader | Rings, decoders: Decoders) -> None:
        self.loaded = loaded
        self.config = loaded.config.name
        self.metric = metric
        self.reader = reader
        self.entries = 0
        self.losses: Count[str] = Count()
        self._names = [label.name for label in metric.labels]
        split = isinstance(metric, Counter) and self._names[-1:] == ["cpu"] and reader.map.kind in PERCPU
        self._read = reader.read_by_cpu if split and isinstance(reader, Reader) else reader.read
        self._alone = split and len(self._names) == 1
        self._rows = Rows(decoders, metric.labels)
        self._texts = HistogramText(metric) if isinstance(metric, Histogram) else None
        self._prefixes: dict[tuple[str, ...], str] = {}

    def family(self) -> Family | None:
        """The metric now; None, and a count in `losses`, if its map cannot be read. A key that no decoder understands is
        counted there, too, and left out.
        """
        kind = "histogram" if isinstance(self.metric, Histogram) else "counter"
        try:
            values = self._values()
        except LibbpfError as problem:
            self.losses["unreadable"] += 1
            log.warning("%s: %s: %s", self.config, self.metric.name, problem)
            return None
        self._rows.trim(self.entries)
        if len(self._prefixes) > 2 * len(values) + 1000:
            self._prefixes.clear()
        lines = list(self._histograms(values) if kind == "histogram" else self._counters(values))
        return Family(PREFIX + self.metric.name, self.metric.help, kind, lines)

    def _values(self) -> dict[tuple[str, ...], int]:
        """Label values → value; rows whose labels are equal are added."""
        totals: dict[tuple[str, ...], int] = {}
        decode = self._rows.decode
        self.entries = 0
        for key, value in self._read():
            self.entries += 1
            if not self._names:
                if not any(key):
                    totals[()] = totals.get((), 0) + value
                continue
            if self._alone and any(key[:4]):
                continue
            try:
                labels = decode(key[4:] if self._alone else key)
            except DecodeError as problem:
                self._undecodable(problem)
                continue
            if labels is not None:
                totals[labels] = totals.get(labels, 0) + value
        return totals

    def _undecodable(self, problem: DecodeError) -> None:
        self.losses["undecodable"] += 1
        if self.losses["undecodable"] == 1:  # whoever writes such keys may write many
            log.warning(
                "%s: %s: a key is left out, and further ones without a word: %s", self.config, self.metric.name, problem
            )

    def _counters(self, values: dict[tuple[str, ...], int]) -> Iterator[str]:
        for labels, value in values.items():
            yield f"{self._prefix(labels)}{value}"

    def _prefix(self, labels: tuple[str, ...]) -> str:
        """`{a="1"} `; remembered."""
        known = self._prefixes.get(labels)
        if known is None:
            known = f"{{{pairs(self._names, labels)}}} " if labels else " "
            self._prefixes[labels] = known
        return known

    def _histograms(self, values: dict[tuple[str, ...], int]) -> Iterator[str]:
        assert isinstance(self.metric, Histogram) and self._texts is not None
        grouped: dict[tuple[str, ...], dict[int, int]] = {}
        for labels, value in values.items():
            grouped.setdefault(labels[:-1], {})[int(labels[-1])] = value
        strays = 0
        for labels, buckets in grouped.items():
            counts, total, sum_, outside = cumulate(self.metric, buckets)
            strays += outside
            yield from self._texts.lines(pairs(self._names[:-1], labels), counts, total, sum_)
        self.losses["outside_buckets"] = strays


def run_statistics(loaded: list[Loaded]) -> list[Family]:
    """What the kernel measured of the programs themselves, while kernel.bpf_stats_enabled is 1; nothing otherwise."""
    try:
        if _STATISTICS.read_text().strip() != "1":
            return []
    except OSError:
        return []
    times = Family(f"{PREFIX}ebpf_program_run_time_seconds", "How long has the program been executing", "counter")
    counts = Family(f"{PREFIX}ebpf_program_run_count_total", "How many times has the program been executed", "counter")
    for program in (program for one in loaded for program in one.programs):
        info = program_info(program.fd)
        if "run_time_ns" in info:
            times.lines.append(f'{{id="{info["prog_id"]}"}} {number(int(info["run_time_ns"]) / 1e9)}')
            counts.lines.append(f'{{id="{info["prog_id"]}"}} {info["run_cnt"]}')
    return [times, counts] if times.lines else []


def program_info(fd: int) -> dict[str, str]:
    """What the kernel says about a loaded program: prog_id, prog_tag, run_time_ns, run_cnt."""
    try:
        with open(f"/proc/self/fdinfo/{fd}") as lines:  # noqa: PTH123 - read at every scrape
            return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    except OSError:
        return {}
