"""One scrape: every program's metrics and our own, as text. Scrapes that come together share one reading of the maps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from .collector import MetricReader, run_statistics
from .decoders import Decoders
from .exposition import Family
from .libbpf import Library
from .loader import Loaded
from .maps import Reader
from .own_metrics import OwnMetrics


@dataclass(frozen=True)
class _Snapshot:
    begun: float
    families: list[Family]


class Exporter:
    """What is loaded, and how it is read."""

    def __init__(self, library: Library, decoders: Decoders, loaded: list[Loaded]) -> None:
        self.library = library
        self.decoders = decoders
        self.loaded = loaded
        self.readers: list[MetricReader] = []
        for one in loaded:
            self._add(one)
        self.own = OwnMetrics(library, loaded, self.readers)
        self._lock = threading.Lock()
        self._last: _Snapshot | None = None
        self._closed = False

    def _add(self, one: Loaded) -> None:
        if one.object is not None and not any(reader.loaded is one for reader in self.readers):
            maps = one.object.maps()
            for metric in one.config.metrics:
                reader = one.rings.get(metric.name) or Reader(self.library, maps[metric.name])
                self.readers.append(MetricReader(one, metric, reader, self.decoders))

    def changed(self, one: Loaded) -> None:
        """More of a program is loaded than before: its maps are read, too, from the next scrape on."""
        with self._lock:
            self._add(one)

    def scrape(self, openmetrics: bool = False, names: frozenset[str] = frozenset()) -> bytes:
        """The whole exposition, or only the metrics `names` (samples' names, as Prometheus' `name[]` has them)."""
        families: Iterable[Family] = self._snapshot().families
        if names:
            families = [family for family in families if names & set(_sample_names(family))]
        text = "".join(piece for family in families for piece in family.text(openmetrics))
        return text.encode() + self.own.text(openmetrics, names)

    def _snapshot(self) -> _Snapshot:
        """The maps as they are now, or as another scrape read them after this one was asked for."""
        asked = time.monotonic()
        with self._lock:
            last = self._last
            if last is not None and last.begun >= asked:
                return last
            begun = time.monotonic()
            families: list[Family] = []
            if not self._closed:
                families = [family for reader in self.readers if (family := reader.family())]
                families += run_statistics(self.loaded)
            self.own.scraped(time.monotonic() - begun)
            self._last = _Snapshot(begun, families)
            return self._last

    def close(self) -> None:
        """Detach everything. A scrape that comes later finds no programs."""
        with self._lock:
            self._closed = True
            for one in self.loaded:
                if one.object is not None:
                    one.object.close()


def _sample_names(family: Family) -> list[str]:
    if family.kind == "histogram":
        return [family.name, *(family.name + suffix for suffix in ("_bucket", "_sum", "_count"))]
    return [family.name]
