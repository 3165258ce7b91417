"""What the exporter says about itself: ebpf_exporter's own names, and g5k_bpf_* for what it does not have."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, PlatformCollector, ProcessCollector, Summary
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics_text

from . import __version__
from .collector import MetricReader, program_info
from .libbpf import Library
from .loader import Loaded
from .rings import Rings


class OwnMetrics:
    """A registry of its own, whose collector reads the loaded programs."""

    def __init__(self, library: Library, loaded: list[Loaded], readers: list[MetricReader]) -> None:
        self.library = library
        self.loaded = loaded
        self.readers = readers
        self.registry = CollectorRegistry(auto_describe=True)
        self._seconds = Summary("g5k_bpf_scrape_seconds", "Time to read and decode all maps", registry=self.registry)
        help_ = "Connections and requests that were not answered: too_many, tls, password, rate_limit"
        self.refused = Counter("g5k_bpf_requests_refused", help_, ["reason"], registry=self.registry)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def scraped(self, seconds: float) -> None:
        self._seconds.observe(seconds)

    def text(self, openmetrics: bool, names: frozenset[str]) -> bytes:
        """The exposition of these metrics, with the end mark that OpenMetrics wants."""
        registry = self.registry.restricted_registry(sorted(names)) if names else self.registry
        write = openmetrics_text.generate_latest if openmetrics else prometheus_client.generate_latest
        return bytes(write(registry))

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client asks a collector for."""
        yield from self._as_ebpf_exporter()
        yield from self._programs()
        yield from self._maps()

    def _as_ebpf_exporter(self) -> Iterator[Metric]:
        enabled = GaugeMetricFamily("ebpf_exporter_enabled_configs", "The set of enabled configs", labels=["name"])
        info = GaugeMetricFamily(
            "ebpf_exporter_ebpf_program_info", "Info about ebpf programs", labels=["config", "program", "tag", "id"]
        )
        attached = GaugeMetricFamily(
            "ebpf_exporter_ebpf_program_attached", "Whether a program is attached", labels=["id"]
        )
        errors = CounterMetricFamily(
            "ebpf_exporter_decoder_errors", "How many times has decoders encountered errors", labels=["config"]
        )
        build = GaugeMetricFamily(
            "ebpf_exporter_build_info", "Which exporter this is", labels=["version", "revision", "libbpf", "python"]
        )
        for one in self.loaded:
            if one.object is not None:
                enabled.add_metric([one.config.name], 1)
            losses = [reader.losses for reader in self.readers if reader.config == one.config.name]
            broken = sum(lost["unreadable"] + lost["undecodable"] for lost in losses)
            errors.add_metric([one.config.name], broken)
            for program in one.programs:
                said = program_info(program.fd)
                number = said.get("prog_id", "")
                info.add_metric([one.config.name, program.name, said.get("prog_tag", ""), number], 1)
                attached.add_metric([number], program.name in one.attached)
        build.add_metric([__version__, "g5kdeploy", self.library.version, platform.python_version()], 1)
        yield from (enabled, info, attached, errors, build)

    def _programs(self) -> Iterator[Metric]:
        loaded = GaugeMetricFamily("g5k_bpf_program_loaded", "Whether a program is in the kernel", labels=["config"])
        seconds = GaugeMetricFamily("g5k_bpf_load_seconds", "Time to load and attach a program", labels=["config"])
        reasons = GaugeMetricFamily(
            "g5k_bpf_failure_info", "Why a program does not load or attach", labels=["config", "program", "reason"]
        )
        waiting = GaugeMetricFamily(
            "g5k_bpf_program_waiting", "Whether a program is tried again when what it lacks comes", labels=["config"]
        )
        attempts = CounterMetricFamily(
            "g5k_bpf_retries", "How often a waiting program was tried again", labels=["config"]
        )
        for one in self.loaded:
            loaded.add_metric([one.name], one.object is not None)
            waiting.add_metric([one.name], bool(one.waiting))
            attempts.add_metric([one.name], one.attempts)
            seconds.add_metric([one.name], one.seconds)
            for program, reason in list(one.reasons.items()):
                reasons.add_metric([one.name, program, reason], 1)
        devices = GaugeMetricFamily(
            "g5k_bpf_xdp_info", "Where an XDP program is attached", labels=["config", "program", "device", "mode"]
        )
        watched = GaugeMetricFamily(
            "g5k_bpf_watched_info",
            "Which XDP program a program watches, by the kernel's number for it",
            labels=["config", "program", "device", "number"],
        )
        for one in self.loaded:
            for program, where in list(one.xdp.items()):
                devices.add_metric([one.name, program, *where], 1)
            for program, watch in list(one.watched.items()):
                watched.add_metric([one.name, program, watch.device, str(watch.number)], 1)
        yield from (loaded, waiting, attempts, seconds, reasons, devices, watched)
        modes: dict[str, GaugeMetricFamily] = {}
        for one in self.loaded:
            if not one.mode_metric:
                continue
            name = f"g5k_bpf_{one.mode_metric}"
            help_ = "Which of its ways a program works in: 1 for that one"
            family = modes.setdefault(name, GaugeMetricFamily(name, help_, labels=["config", "mode"]))
            for mode in (*one.modes, "off"):
                family.add_metric([one.name, mode], mode == (one.mode or "off"))
        yield from modes.values()

    def _maps(self) -> Iterator[Metric]:
        labels = ["config", "map"]
        entries = GaugeMetricFamily("g5k_bpf_map_entries", "Entries of a map at the last scrape", labels=labels)
        room = GaugeMetricFamily("g5k_bpf_map_max_entries", "Entries that a map has room for", labels=labels)
        outside = GaugeMetricFamily(
            "g5k_bpf_events_outside_buckets", "Events of a histogram that lie in none of its buckets", labels=labels
        )
        lost = CounterMetricFamily(
            "g5k_bpf_events_lost", "Events that are in no counter, and why", labels=[*labels, "reason"]
        )
        for reader in list(self.readers):
            where = [reader.config, reader.metric.name]
            entries.add_metric(where, reader.entries)
            room.add_metric(where, reader.reader.map.max_entries)
            outside.add_metric(where, reader.losses["outside_buckets"])
            if isinstance(reader.reader, Rings):
                for reason in ("ring_full", "too_many", "too_short"):
                    lost.add_metric([*where, reason], reader.reader.losses[reason])
        for one in self.loaded:
            if one.cgroups is not None:
                where = [one.config.name, one.cgroups.map.name]
                entries.add_metric(where, len(one.cgroups.inside))
                room.add_metric(where, one.cgroups.map.max_entries)
                for reason in ("full", "refused"):
                    lost.add_metric([*where, reason], one.cgroups.losses[reason])
        yield from (entries, room, outside, lost)
