"""ebpf_exporter's configuration format, read strictly: X.yaml says how the maps of X.bpf.o become metrics."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field
from pathlib import Path

from .document import Mistakes, Part, read
from .durations import duration

DECODERS = [
    "cgroup",
    "dname",
    "errno",
    "hex",
    "ifname",
    "inet_ip",
    "kstack",
    "ksym",
    "majorminor",
    "pci_class",
    "pci_device",
    "pci_subclass",
    "pci_vendor",
    "regexp",
    "static_map",
    "string",
    "syscall",
    "uint",
]
_AFTER_UINT = frozenset({"cgroup", "errno", "pci_class", "pci_device", "pci_subclass", "pci_vendor", "syscall"})
_CGROUP_MAPS = ("hash", "cgrp_storage")
_BUCKET_TYPES = ("exp2", "exp2zero", "linear", "fixed")
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_MOST_BUCKETS = 10_000
_UINT_SIZES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Decoder:
    """One step from a key's bytes to a label's text."""

    name: str
    static_map: dict[str, str] = field(default_factory=dict)
    allow_unknown: bool = False
    regexps: tuple[re.Pattern[bytes], ...] = ()


@dataclass(frozen=True)
class Label:
    """One label: `size` bytes of the key, then `padding` bytes that nobody looks at, and how the bytes become text."""

    name: str
    size: int
    padding: int
    decoders: tuple[Decoder, ...]
    line: int = 0


@dataclass(frozen=True)
class Counter:
    """A map whose values are counts; or a perf_event_array, whose events are counted until the next flush."""

    name: str
    help: str
    labels: tuple[Label, ...]
    line: int = 0
    perf_event_array: bool = False
    flush_interval: float = 3600.0
    """Seconds."""


@dataclass(frozen=True)
class Histogram:
    """A map whose last label is the bucket: `keys` are the buckets in the map, in order."""

    name: str
    help: str
    labels: tuple[Label, ...]
    kind: str
    keys: tuple[int, ...]
    multiplier: float
    line: int = 0

    @property
    def sum_key(self) -> int:
        """The key under which the map holds the sum of all values."""
        return self.keys[-1] + 1

    def bounds(self) -> list[float]:
        """The upper bound of each key's bucket."""
        if self.kind == "exp2":
            return [2.0**key * self.multiplier for key in self.keys]
        if self.kind == "exp2zero":
            return [2.0 ** (key - 1) * self.multiplier if key else 0.0 for key in self.keys]
        return [key * self.multiplier for key in self.keys]


@dataclass(frozen=True)
class CgroupIdMap:
    """A map that is to hold the ids of the cgroups whose path matches one of the regexps."""

    name: str
    storage: bool
    """cgrp_storage, whose key is a descriptor; otherwise a hash, whose key is the id."""
    regexps: tuple[re.Pattern[str], ...]
    line: int = 0


@dataclass(frozen=True)
class Config:
    """What X.yaml says. The object lies beside it, or in a folder with this machine's name where it has one of its own."""

    name: str
    file: Path
    counters: tuple[Counter, ...]
    histograms: tuple[Histogram, ...]
    kaddrs: tuple[str, ...] = ()
    cgroup_id_map: CgroupIdMap | None = None

    @property
    def object(self) -> Path:
        file = f"{self.name}.bpf.o"
        own = self.file.parent / platform.machine() / file
        return own if own.exists() else self.file.with_name(file)

    @property
    def metrics(self) -> tuple[Counter | Histogram, ...]:
        return (*self.counters, *self.histograms)


def read_config(folder: Path, name: str, mistakes: Mistakes) -> Config | None:
    """Read `folder/name.yaml`. Whatever is wrong is added to the mistakes; None if there is nothing to go on with."""
    file = folder / f"{name}.yaml"
    document = read(file, mistakes)
    if document is None:
        return None
    found = document.fields(
        "the configuration",
        {"name": False, "metrics": False, "tracing": False, "kaddrs": False, "cgroup_id_map": False},
    )
    if "tracing" in found:
        found["tracing"].wrong(
            "tracing spans are not supported: this exporter serves metrics, and has nowhere to send spans to"
        )
    counters: list[Counter] = []
    histograms: list[Histogram] = []
    if "metrics" in found:
        metrics = found["metrics"].fields("metrics", {"counters": False, "histograms": False})
        if "counters" in metrics:
            counters = [c for part in metrics["counters"].items("counters") if (c := _counter(part))]
        if "histograms" in metrics:
            histograms = [h for part in metrics["histograms"].items("histograms") if (h := _histogram(part))]
        names: set[str] = set()
        defined: list[Counter | Histogram] = [*counters, *histograms]
        for metric in defined:
            if metric.name in names:
                mistakes.add(file, metric.line, f"metric {metric.name} stands twice")
            names.add(metric.name)
    if "metrics" not in found and "tracing" not in found:
        document.wrong("no metrics are defined")
    kaddrs = found["kaddrs"].strings("kaddrs") if "kaddrs" in found else []
    cgroups = _cgroup_id_map(found["cgroup_id_map"]) if "cgroup_id_map" in found else None
    return Config(name, file, tuple(counters), tuple(histograms), tuple(kaddrs), cgroups)


def _cgroup_id_map(part: Part) -> CgroupIdMap | None:
    found = part.fields("cgroup_id_map", {"name": True, "type": False, "regexps": True})
    kind = found["type"].value("type", str) if "type" in found else "hash"
    if kind is not None and kind not in _CGROUP_MAPS:
        found["type"].wrong(f"unknown type {kind} of cgroup_id_map; known: {', '.join(_CGROUP_MAPS)}")
    regexps = []
    wanted = found["regexps"].items("regexps") if "regexps" in found else []
    for item in wanted:
        text = item.value("a regexp", str)
        try:
            regexps.append(re.compile(text or ""))
        except re.error as problem:
            item.wrong(f"{text!r} is no regular expression: {problem}")
    if "regexps" in found and not wanted:
        found["regexps"].wrong("without regexps no cgroup would ever match")
    name = found["name"].value("the name of a map", str) if "name" in found else None
    return CgroupIdMap(name, kind == "cgrp_storage", tuple(regexps), part.line) if name else None


def _name(part: Part | None, what: str, form: re.Pattern[str]) -> str:
    name = part.value(f"the name of {what}", str) if part else None
    if part and name is not None and not form.fullmatch(name):
        part.wrong(f"{name!r} cannot be the name of {what}")
    return name or ""


def _counter(part: Part) -> Counter | None:
    found = part.fields(
        "a counter", {"name": True, "help": True, "labels": False, "perf_event_array": False, "flush_interval": False}
    )
    if not found:
        return None
    labels = _labels(found["labels"]) if "labels" in found else ()
    help_ = found["help"].value("help", str) if "help" in found else ""
    name = _name(found.get("name"), "a metric", _METRIC_NAME)
    ring = found["perf_event_array"].value("perf_event_array", bool) if "perf_event_array" in found else False
    interval = 3600.0
    if "flush_interval" in found:
        text = found["flush_interval"].value("flush_interval", str)
        try:
            interval = duration(text or "0") or interval  # 0 means the default, as in the original
        except ValueError as problem:
            found["flush_interval"].wrong(str(problem))
        if not ring:
            found["flush_interval"].wrong("flush_interval belongs to a perf_event_array; a map counts on for ever")
    return Counter(name, help_ or "", labels, part.line, bool(ring), interval)


def _histogram(part: Part) -> Histogram | None:
    known = {"name": True, "help": True, "bucket_type": True, "bucket_min": False, "bucket_max": False}
    found = part.fields("a histogram", known | {"bucket_multiplier": False, "bucket_keys": False, "labels": True})
    if not found:
        return None
    kind = found["bucket_type"].value("bucket_type", str) if "bucket_type" in found else ""
    if kind is not None and "bucket_type" in found and kind not in _BUCKET_TYPES:
        found["bucket_type"].wrong(f"unknown bucket_type {kind}; known: {', '.join(_BUCKET_TYPES)}")
    multiplier = found["bucket_multiplier"].value("bucket_multiplier", float) if "bucket_multiplier" in found else 1.0
    if multiplier is not None and not 0 <= multiplier < float("inf"):
        found["bucket_multiplier"].wrong("bucket_multiplier must be a positive number")
    labels = _labels(found["labels"]) if "labels" in found else ()
    if "labels" in found:
        _check_bucket_label(found["labels"], labels)
    name = _name(found.get("name"), "a metric", _METRIC_NAME)
    help_ = found["help"].value("help", str) if "help" in found else ""
    keys = _bucket_keys(part, found, kind or "")
    # A multiplier of 0 means 1, as in the original.
    return Histogram(name, help_ or "", labels, kind or "", keys, multiplier or 1.0, part.line)


def _bucket_keys(part: Part, found: dict[str, Part], kind: str) -> tuple[int, ...]:
    """The keys of the buckets, ascending; (0,) where they are wrong."""
    if kind == "fixed":
        for key in ("bucket_min", "bucket_max"):
            if key in found:
                found[key].wrong(f"{key} means nothing with bucket_type fixed, which has bucket_keys")
        if "bucket_keys" not in found:
            part.wrong("a histogram with bucket_type fixed lacks bucket_keys")
            return (0,)
        keys = [item.value("a bucket key", int) for item in found["bucket_keys"].items("bucket_keys")]
        if not keys or None in keys or any(key < 0 for key in keys) or keys != sorted(set(keys)):
            found["bucket_keys"].wrong(
                "bucket_keys must be whole numbers of 0 or more, each greater than the one before"
            )
            return (0,)
        return tuple(keys)
    if "bucket_keys" in found:
        found["bucket_keys"].wrong("bucket_keys means something only with bucket_type fixed")
    bounds = []
    for key in ("bucket_min", "bucket_max"):
        bound = found[key].value(key, int) if key in found else 0
        if bound is None:
            return (0,)
        bounds.append(bound)
    low, high = bounds
    if not 0 <= low < high or high - low >= _MOST_BUCKETS or (kind.startswith("exp2") and high > 64):
        limit = "64" if kind.startswith("exp2") else f"{_MOST_BUCKETS} buckets"
        found.get("bucket_max", part).wrong(f"bucket_max must be greater than bucket_min, from 0 and up to {limit}")
        return (0,)
    return tuple(range(low, high + 1))


def _check_bucket_label(part: Part, labels: tuple[Label, ...]) -> None:
    if not labels:
        part.wrong("a histogram needs a last label that is the bucket")
        return
    last = labels[-1]
    if [decoder.name for decoder in last.decoders] != ["uint"]:
        part.mistakes.add(
            part.file,
            last.line,
            f"the last label of a histogram is its bucket, with decoder uint alone, but {last.name} is none",
        )
    if any(label.name == "le" for label in labels[:-1]):
        part.wrong("a histogram cannot have a label le, which is the bucket's bound")


def _labels(part: Part) -> tuple[Label, ...]:
    labels = [label for item in part.items("labels") if (label := _label(item))]
    names: set[str] = set()
    for label in labels:
        if label.name in names:
            part.mistakes.add(part.file, label.line, f"label {label.name} stands twice")
        names.add(label.name)
    return tuple(labels)


def _label(part: Part) -> Label | None:
    found = part.fields("a label", {"name": True, "size": True, "padding": False, "decoders": True})
    if not found:
        return None
    name = _name(found.get("name"), "a label", _LABEL_NAME)
    sizes = []
    for key, least in (("size", 1), ("padding", 0)):
        size = found[key].value(key, int) if key in found else 0
        if key in found and size is not None and not least <= size <= 65536:
            found[key].wrong(f"{key} must be {least} to 65536 bytes")
        sizes.append(size or 0)
    decoders: tuple[Decoder, ...] = ()
    if "decoders" in found:
        parts = found["decoders"].items("decoders")
        decoders = tuple(decoder for item in parts if (decoder := _decoder(item)))
        if not parts:
            found["decoders"].wrong(f"label {name} has no decoders")
        _check_chain(found["decoders"], decoders, sizes[0])
    return Label(name, sizes[0], sizes[1], decoders, part.line)


def _check_chain(part: Part, decoders: tuple[Decoder, ...], size: int) -> None:
    """What can be seen without a key: a decoder that must fail for whatever bytes come."""
    names = [decoder.name for decoder in decoders]
    for before, name in zip(["", *names], names, strict=False):
        if name in _AFTER_UINT and before not in {"uint", "static_map", "regexp"}:
            part.wrong(f"decoder {name} works on a number in text: uint must come before it")
    if not names or not size:
        return
    if names[0] == "uint" and size not in _UINT_SIZES:
        part.wrong(f"decoder uint takes 1, 2, 4 or 8 bytes, not {size}")
    if names[0] in {"ifname", "majorminor"} and size < 4:
        part.wrong(f"decoder {names[0]} takes 4 bytes, not {size}")
    if names[0] == "inet_ip" and size not in {4, 16}:
        part.wrong(f"decoder inet_ip takes 4 or 16 bytes, not {size}")
    if (names[0] == "ksym" and size != 8) or (names[0] == "kstack" and size % 8):
        part.wrong(f"decoder {names[0]} takes addresses of 8 bytes, not {size} bytes")


def _decoder(part: Part) -> Decoder | None:
    found = part.fields("a decoder", {"name": True, "static_map": False, "allow_unknown": False, "regexps": False})
    if "name" not in found:
        return None
    name = found["name"].value("the name of a decoder", str)
    if name not in DECODERS:
        found["name"].wrong(f"unknown decoder {name}; known: {', '.join(DECODERS)}")
        return None
    for key, owner in (("static_map", "static_map"), ("allow_unknown", "static_map"), ("regexps", "regexp")):
        if key in found and name != owner:
            found[key].wrong(f"{key} belongs to decoder {owner}, not to {name}")
    static_map = {}
    if "static_map" in found:
        entries = found["static_map"].entries("static_map")
        static_map = {key: value.value(f"{key} of static_map", str) or "" for key, value in entries.items()}
    elif name == "static_map":
        part.wrong("decoder static_map lacks static_map")
    unknown = found["allow_unknown"].value("allow_unknown", bool) if "allow_unknown" in found else False
    if name == "regexp" and "regexps" not in found:
        part.wrong("decoder regexp lacks regexps")
    regexps = [r for item in found["regexps"].items("regexps") if (r := _regexp(item))] if "regexps" in found else []
    return Decoder(name, static_map, bool(unknown), tuple(regexps))


def _regexp(part: Part) -> re.Pattern[bytes] | None:
    text = part.value("a regexp", str)
    if text is None:
        return None
    try:
        pattern = re.compile(text.encode())
    except re.error as problem:
        part.wrong(f"{text!r} is no regular expression: {problem}")
        return None
    if pattern.groups > 1:
        part.wrong(f"{text!r} has {pattern.groups} groups, but only one can become the label")
    return pattern
