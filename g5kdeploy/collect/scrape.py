"""Samples from exporters: a scraper detached on a node, its closed segments fetched, verified and made into Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node import Remote


@dataclass(frozen=True)
class Scraper:
    """What is scraped: node name → URL as seen from the scraping node ("http://127.0.0.1:9435/metrics").

    `interval` in seconds. `name` identifies it on its node: the same name is the same scraper.
    """

    name: str
    targets: Mapping[str, str]
    interval: float = 1.0


@dataclass(frozen=True)
class Fetched:
    """What one fetch brought: new segments, their bytes, and all segments there are now in the local folder."""

    new: int
    bytes: int
    segments: int


def start_scraper(remote: Remote, scraper: Scraper, deadline: Deadline) -> bool:
    """Start it detached; True when it was started now, False when it runs already."""
    raise ConnectionError


def scrape_now(remote: Remote, scraper: Scraper, deadline: Deadline) -> dict[str, str]:
    """One scrape of every target, begun after this call and safely in a closed segment when it returns.

    Called before a workload starts and after it ended, it makes the difference of a counter exact.
    Returns per target "" or what went wrong.
    """
    raise ConnectionError


def stop_scraper(remote: Remote, scraper: Scraper, deadline: Deadline) -> None:
    """Stop it; its last segment is closed first."""
    raise ConnectionError


def fetch_samples(remote: Remote, scraper: Scraper, folder: Path, deadline: Deadline) -> Fetched:
    """Bring the segments that are not in `folder` yet, verified; call it as often as wanted."""
    raise ConnectionError


def write_parquet(segments: Path, to: Path) -> int:
    """All segments of a folder as one Parquet file, written aside and renamed; the number of samples.

    Columns: time (timestamp[us, UTC], when the scrape began), node (string), metric (string: the sample's name, with
    _total, _bucket, ...), labels (string: JSON object with sorted keys), value (float64). Each scrape adds Prometheus's
    own `up` and `scrape_duration_seconds`.
    """
    raise ConnectionError
