"""What is to be loaded: every file read and checked against the objects, before anything goes into the kernel."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from .bcc_backend import source
from .config import CgroupIdMap, Config, Counter, Histogram, read_config
from .document import Mistakes
from .libbpf import LibbpfError, Library, Map
from .load_settings import LoadSettings, read_load_settings
from .maps import ARRAY, CGRP_STORAGE, HASH, KINDS, LRU_HASH, PERCPU, PERCPU_ARRAY, PERF_EVENT_ARRAY

CALL_CONSTANTS = ("wanted_calls", "every_call")
FILTER_CONSTANTS = ("filter_cgroup", "filter_cgroup_level", "filter_tgid")


@dataclass(frozen=True)
class Candidate:
    """One configuration with its object or source, and the word for it where it is one of several."""

    config: Config
    mode: str = ""
    source: Path | None = None


@dataclass(frozen=True)
class Plan:
    """A program by the name that was asked for: the first candidate that loads is taken."""

    name: str
    settings: LoadSettings
    candidates: tuple[Candidate, ...]


def make_plans(
    folder: Path, names: list[str], library: Library, mistakes: Mistakes, btf: str = "", backend: str = "auto"
) -> list[Plan]:
    """Read and check everything that `names` need. A plan stands only for what is free of mistakes.

    `backend`: auto takes an object where there is one and compiles a source otherwise; libbpf never compiles; bcc
    compiles where there is a source.
    """
    plans = []
    owners: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if not name or "/" in name or name.startswith("."):
            mistakes.add(folder, 0, f"{name!r} cannot be the name of a program")
            continue
        before = len(mistakes.entries)
        settings = read_load_settings(folder, name, mistakes)
        wanted = [(a.name, a.mode) for a in settings.alternatives] or [(name, "")]
        candidates = []
        for config_name, mode in wanted:
            config = read_config(folder, config_name, mistakes)
            if config is None:
                continue
            compiled = source_of(config, backend)
            if compiled is None:  # a source is held against its YAML once it is compiled
                check_object(config, settings, library, mistakes, btf)
            candidates.append(Candidate(config, mode, compiled))
            for metric in config.metrics:
                owner = owners.setdefault(metric.name, name)
                if owner != name:
                    mistakes.add(config.file, metric.line, f"metric {metric.name} is also one of {owner}")
        if len(mistakes.entries) == before:
            plans.append(Plan(name, settings, tuple(candidates)))
    return plans


def source_of(config: Config, backend: str) -> Path | None:
    """The C source that a program is to be compiled from; None where its object is to be loaded."""
    there = source(config.file.parent, config.name)
    if backend == "libbpf" or not there.exists() or (backend == "auto" and config.object.exists()):
        return None
    return there


def check_maps(config: Config, maps: dict[str, Map], mistakes: Mistakes) -> None:
    """Whether there is a map for every metric, and of the sizes that the labels say."""
    for metric in config.metrics:
        if metric.name in maps:
            _check_map(config.file, metric, maps[metric.name], mistakes)
        elif metric.name:
            there = ", ".join(sorted(maps)) or "none"
            mistakes.add(config.file, metric.line, f"{config.name} has no map {metric.name}; maps there: {there}")
    if config.cgroup_id_map is not None:
        _check_cgroup_map(config, config.cgroup_id_map, maps, mistakes)


def _check_cgroup_map(config: Config, wanted: CgroupIdMap, maps: dict[str, Map], mistakes: Mistakes) -> None:
    map_ = maps.get(wanted.name)
    if map_ is None:
        there = ", ".join(sorted(maps)) or "none"
        mistakes.add(config.file, wanted.line, f"{config.name} has no map {wanted.name}; maps there: {there}")
        return
    kinds, key = ({CGRP_STORAGE}, 4) if wanted.storage else ({HASH, LRU_HASH}, 8)
    if map_.kind not in kinds:
        word = "cgrp_storage" if wanted.storage else "hash"
        mistakes.add(config.file, wanted.line, f"{wanted.name} is no map of type {word}")
    elif (map_.key_size, map_.value_size) != (key, 8):
        text = f"{wanted.name} must have keys of {key} bytes and values of 8, not {map_.key_size} and {map_.value_size}"
        mistakes.add(config.file, wanted.line, text)


def check_object(config: Config, settings: LoadSettings, library: Library, mistakes: Mistakes, btf: str = "") -> None:
    """Whether the object has what the YAML says: maps, sizes, constants. Nothing is loaded."""
    try:
        opened = library.open(config.object, btf)
    except LibbpfError as problem:
        missing = not config.object.exists()
        words = "there is no such file" if missing else problem.words or str(problem)
        mistakes.add(config.file, 1, f"{config.object.name}: {words.splitlines()[-1]}")
        return
    try:
        maps, constants = opened.maps(), opened.constants()
    finally:
        opened.close()
    check_maps(config, maps, mistakes)
    for symbol in config.kaddrs:
        if constants.get(f"kaddr_{symbol}", (0, 0))[1] != 8:
            mistakes.add(config.file, 1, f"{config.object.name} has no `const volatile u64 kaddr_{symbol}`")
    if settings.file:
        _check_settings(config, settings, constants, mistakes)


def _check_settings(
    config: Config, settings: LoadSettings, constants: dict[str, tuple[int, int]], mistakes: Mistakes
) -> None:
    file = settings.file or config.file
    for name, (value, line) in settings.values.items():
        if name not in constants:
            there = ", ".join(sorted(constants)) or "none"
            mistakes.add(file, line, f"{config.object.name} has no constant {name}; constants there: {there}")
            continue
        try:
            encode(value, constants[name][1])
        except ValueError as problem:
            mistakes.add(file, line, f"{name}: {problem}")
    if settings.calls and any(name not in constants for name in CALL_CONSTANTS):
        mistakes.add(
            file, 1, f"{config.object.name} measures no list of calls: it lacks {' and '.join(CALL_CONSTANTS)}"
        )
    if settings.filter_line and any(name not in constants for name in FILTER_CONSTANTS):
        mistakes.add(file, settings.filter_line, f"{config.object.name} has no filter: {', '.join(FILTER_CONSTANTS)}")


def encode(value: int | str, size: int) -> bytes:
    """A constant's bytes: a number of that size, or text with a NUL behind it. `ValueError` says what does not fit."""
    if isinstance(value, str):
        raw = value.encode()
        if len(raw) >= size:
            raise ValueError(f"{value!r} does not fit into {size - 1} bytes")
        return raw.ljust(size, b"\0")
    try:
        return value.to_bytes(size, sys.byteorder, signed=value < 0)
    except OverflowError:
        raise ValueError(f"{value} does not fit into {size} bytes") from None


def _check_map(file: Path, metric: Counter | Histogram, map_: Map, mistakes: Mistakes) -> None:
    def wrong(text: str) -> None:
        mistakes.add(file, metric.line, f"{metric.name}: {text}")

    if isinstance(metric, Counter) and metric.perf_event_array:
        if map_.kind != PERF_EVENT_ARRAY:
            wrong("perf_event_array is true, but the map is none")
        return
    if map_.kind == PERF_EVENT_ARRAY:
        wrong("the map is a perf_event_array, which a counter with `perf_event_array: true` reads")
        return
    if map_.kind not in KINDS:
        wrong(f"a map of type {map_.kind} cannot be read; these can: {', '.join(KINDS.values())}")
        return
    if map_.value_size != 8:
        wrong(f"the map's values must be 8 bytes (u64), but they are {map_.value_size}")
    labels = list(metric.labels)
    split = bool(labels) and labels[-1].name == "cpu" and map_.kind in PERCPU and isinstance(metric, Counter)
    if split:
        if labels[-1].size + labels[-1].padding != 2:
            wrong("label cpu, which splits a per-CPU map, is 2 bytes")
        labels.pop()
    if not labels:
        if map_.key_size != 4:
            wrong(f"without labels the map's key must be 4 bytes (u32 0), but it is {map_.key_size}")
        return
    total = sum(label.size + label.padding for label in labels)
    if total != map_.key_size and all(label.size for label in labels):
        wrong(f"its labels describe {total} bytes, but the map's key is {map_.key_size}")
    if isinstance(metric, Histogram) and map_.kind in {ARRAY, PERCPU_ARRAY} and map_.max_entries < metric.sum_key + 1:
        wrong(f"the map has {map_.max_entries} entries, but the sum is kept at {metric.sum_key}")
