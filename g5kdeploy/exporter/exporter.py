"""One scrape: every program's metrics and our own, as text. Scrapes that come together share one reading of the maps."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from .collector import MetricReader, run_statistics
from .decoders import Decoders
from .exposition import Family
from .libbpf import Library
from .loader import Loaded
from .maps import Reader
from .own_metrics import OwnMetrics

_MOST_BODIES = 16  # different answers kept of one reading
_SMALL = 1000  # bytes below which packing is not worth it


@dataclass(frozen=True)
class Body:
    """What a scrape gets; packed: with gzip."""

    text: bytes
    packed: bool


@dataclass
class _Snapshot:
    """One reading of the maps, and the answers that were made of it."""

    begun: float
    families: list[Family]
    lock: threading.Lock = field(default_factory=threading.Lock)
    bodies: dict[tuple[bool, frozenset[str], bool], Body] = field(default_factory=dict)


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
        return self.body(openmetrics, names, False).text

    def body(self, openmetrics: bool, names: frozenset[str], packed: bool) -> Body:
        """The same as it goes over the wire. Who asks for what another scrape of the same reading got, gets that."""
        snapshot = self._snapshot()
        wanted = (openmetrics, names, packed)
        with snapshot.lock:
            known = snapshot.bodies.get(wanted)
            if known is None:
                text = self._text(snapshot, openmetrics, names)
                small = not packed or len(text) < _SMALL
                known = Body(text if small else gzip.compress(text, compresslevel=1, mtime=0), not small)
                if len(snapshot.bodies) < _MOST_BODIES:
                    snapshot.bodies[wanted] = known
            return known

    def _text(self, snapshot: _Snapshot, openmetrics: bool, names: frozenset[str]) -> bytes:
        families: Iterable[Family] = snapshot.families
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
