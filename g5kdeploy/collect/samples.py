"""Segments of scraped text made into one table of samples."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g5kdeploy.collect.scrape import Damaged, unpacked

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 1 << 17  # samples in a row group: what is held in memory
_HEAD = b"#scrape "


@dataclass(frozen=True)
class Scrape:
    """One reading of one target: when it began (unix time), how long it took, what was said or what went wrong."""

    time: float
    seconds: float
    node: str
    error: str
    body: bytes


def scrapes(text: bytes, where: str) -> Iterator[Scrape]:
    """The scrapes in the text of a segment, in their order; raises `Damaged` when it is no such text."""
    at = 0
    while at < len(text):
        end = text.find(b"\n", at)
        words = text[at:end].decode(errors="replace").split(" ", 5)
        try:
            if not text.startswith(_HEAD, at) or end < 0:
                raise ValueError("no #scrape line")
            _, began, seconds, node, size, error = words
            start, stop = end + 1, end + 1 + int(size)
            if text[stop : stop + 1] != b"\n":
                raise ValueError("a scrape is cut")
            yield Scrape(float(began), float(seconds), node, error, text[start:stop])
        except ValueError as wrong:
            raise Damaged(f"{where} is no segment of samples", cause=str(wrong)) from wrong
        at = stop + 1


@dataclass
class Exposition:
    """Prometheus's text format, read line by line; what stands before the value is parsed once for all scrapes."""

    _known: dict[str, tuple[str, str]] = field(default_factory=dict)

    def samples(self, body: bytes) -> list[tuple[str, str, float]]:
        """(metric, labels as JSON, value) of every sample as it stands there; raises ValueError."""
        found = []
        for line in body.decode().splitlines():
            if not line or line.startswith("#"):
                continue
            series, _, value = line.rpartition(" ")
            known = self._known.get(series)
            if known is None:
                metric, labels, number, stamped = self._parse(line)
                if not stamped:
                    self._known[series] = (metric, labels)
                found.append((metric, labels, number))
            else:
                found.append((*known, float(value)))
        return found

    @staticmethod
    def _parse(line: str) -> tuple[str, str, float, bool]:
        from prometheus_client.parser import text_string_to_metric_families

        for family in text_string_to_metric_families(line + "\n"):
            for sample in family.samples:
                labels = json.dumps(sample.labels, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
                return sample.name, labels, float(sample.value), sample.timestamp is not None
        raise ValueError(f"no sample: {line[:80]}")


def schema() -> pa.Schema:
    """The columns of metrics/*.parquet."""
    import pyarrow as pa

    return pa.schema(
        [
            ("time", pa.timestamp("us", tz="UTC")),
            ("node", pa.string()),
            ("metric", pa.string()),
            ("labels", pa.string()),
            ("value", pa.float64()),
        ]
    )


def write_parquet(segments: Path, to: Path) -> int:
    """All segments of a folder as one Parquet file, written aside and renamed; the number of samples.

    Columns: time (timestamp[us, UTC], when the scrape began), node (string), metric (string: the sample's name, with
    _total, _bucket, ...), labels (string: JSON object with sorted keys), value (float64). Each scrape adds Prometheus's
    own `up` and `scrape_duration_seconds`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = schema()
    to.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{to.name}.", dir=to.parent)
    os.close(fd)
    aside = Path(name)
    rows: list[tuple[Any, ...]] = []
    count = 0
    try:
        with pq.ParquetWriter(aside, columns, compression="zstd") as writer:

            def flush() -> None:
                if rows:
                    arrays = [pa.array([row[index] for row in rows], kind.type) for index, kind in enumerate(columns)]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=columns))
                    rows.clear()

            for row in _rows(segments):
                rows.append(row)
                count += 1
                if len(rows) >= ROWS:
                    flush()
            flush()
        aside.chmod(0o644)
        aside.replace(to)
    finally:
        aside.unlink(missing_ok=True)
    return count


def _rows(segments: Path) -> Iterator[tuple[datetime, str, str, str, float]]:
    exposition = Exposition()
    for path in sorted(segments.glob("*.gz")):
        for scrape in scrapes(unpacked(path.read_bytes(), str(path)), str(path)):
            at = datetime.fromtimestamp(scrape.time, UTC)
            up = 0.0 if scrape.error else 1.0
            samples: list[tuple[str, str, float]] = []
            if not scrape.error:
                try:
                    samples = exposition.samples(scrape.body)
                except ValueError:  # an exporter that answers with something else is as good as down
                    up = 0.0
            for metric, labels, value in samples:
                yield at, scrape.node, metric, labels, value
            yield at, scrape.node, "up", "{}", up
            yield at, scrape.node, "scrape_duration_seconds", "{}", scrape.seconds
