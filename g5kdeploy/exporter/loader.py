"""Loads what the plans say, the first alternative that this kernel takes, and says what became of each."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import cgroups, perf_event, xdp_watch
from .bcc_attach import attach as attach_by_bcc
from .bcc_attach import is_pattern
from .bcc_backend import BccError, BccObject
from .cgroup_map import CgroupIds
from .config import Config
from .decoders import Decoders
from .document import Mistakes
from .libbpf import LibbpfError, Library, Object, Program
from .load_settings import LoadSettings
from .plan import Candidate, Plan, check_maps, encode
from .reasons import explain_attach, explain_load, may_come
from .rings import Rings
from .syscalls import bitmap
from .xdp import XdpError, is_xdp
from .xdp import attach as attach_xdp

log = logging.getLogger(__name__)

_SIDE_BY_SIDE = 2  # objects that are loaded at a time; each takes some 10 MB meanwhile, for the kernel's types


class CannotLoad(Exception):
    """Why one candidate does not load, as a sentence."""


@dataclass
class Loaded:
    """What became of a program: without an object it did not load. `attached` has names of BPF programs."""

    name: str
    plan: Plan
    config: Config
    mode: str = ""
    mode_metric: str = ""
    object: Object | BccObject | None = None
    programs: list[Program] = field(default_factory=list)
    attached: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)
    """Name of a candidate, or of a BPF program, → why it does not load or attach."""
    waiting: set[str] = field(default_factory=set)
    """Of those in `reasons`, the ones that lack what may still come: with a kernel module, or as an XDP program."""
    attempts: int = 0
    """How often they were tried again."""
    modes: tuple[str, ...] = ()
    xdp: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name of an XDP program → (device, mode) that it is attached to."""
    watched: dict[str, xdp_watch.Watch] = field(default_factory=dict)
    """Name of a program → the XDP program that it watches."""
    rings: dict[str, Rings] = field(default_factory=dict)
    """Name of a metric → what counts its events, where it is a perf_event_array."""
    cgroups: CgroupIds | None = None
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        """Everything loaded and attached."""
        return self.object is not None and len(self.attached) == len(self.programs)


class Loader:
    """Puts programs into the kernel and takes them out again."""

    def __init__(
        self,
        library: Library,
        decoders: Decoders,
        btf: str = "",
        prepare: Callable[[], object] = lambda: None,
        backend: str = "auto",
    ) -> None:
        """Threads that a program needs call `prepare` first."""
        self._backend = backend
        self.library = library
        self.decoders = decoders
        self.btf = btf
        self._prepare = prepare

    def load(self, plans: list[Plan]) -> list[Loaded]:
        """Never raises for a kernel that does not take a program: the reasons stand in the results.

        Objects go into the kernel side by side, since most of that is libbpf's reading of the kernel's types, for each
        object anew. They are attached one after the other, in the order of the plans.
        """
        all_ = [_nothing_yet(plan) for plan in plans]
        with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="load") as pool:
            begun = [
                None if one.plan.candidates[0].source else pool.submit(self._loaded, one.plan.candidates[0], one)
                for one in all_
            ]
            for one, first in zip(all_, begun, strict=True):
                self._load(one, first)
        return all_

    def _load(self, loaded: Loaded, first: Future[Object | BccObject] | None = None) -> bool:
        """Whether one of the candidates is there now. `first`: where the first one is being loaded already."""
        for candidate in loaded.plan.candidates:
            if self._try(candidate, loaded, first):
                return True
            first = None
        return False

    def again(self, loaded: Loaded) -> bool:
        """Try once more what waits. Whether an object is loaded now."""
        if loaded.object is None:
            loaded.waiting.clear()
            loaded.reasons.clear()
            loaded.seconds = 0.0
            return self._load(loaded)
        programs = [program for program in loaded.programs if program.name in loaded.waiting]
        waiting: set[str] = set()
        attached, reasons = self._attach(loaded.object, programs, loaded, waiting)
        loaded.attached |= attached
        loaded.reasons = {name: why for name, why in loaded.reasons.items() if name not in attached} | reasons
        loaded.waiting = waiting
        return True

    def let_go(self, loaded: Loaded) -> None:
        """Of XDP programs that have left their device; what watched them waits for the next one."""
        for name, watch in list(loaded.watched.items()):
            if xdp_watch.program_on(self.library, watch.device) != watch.number:
                del loaded.watched[name]
                loaded.attached.discard(name)
                if loaded.object is not None:
                    loaded.object.closing.remove(watch.close)
                watch.close()
                log.info("%s: XDP program %d has left %s", loaded.name, watch.number, watch.device)
                loaded.reasons[name] = f"the XDP program that it watched has left {watch.device}"
                loaded.waiting.add(name)

    def _try(self, candidate: Candidate, loaded: Loaded, begun: Future[Object | BccObject] | None) -> bool:
        name = candidate.config.name
        try:
            opened = begun.result() if begun else self._loaded(candidate, loaded)
            rings, followed = self._fed(candidate.config, opened)
        except (LibbpfError, CannotLoad, BccError) as problem:
            loaded.reasons[name] = explain_load(problem) if isinstance(problem, LibbpfError) else str(problem)
            if isinstance(problem, LibbpfError) and may_come(problem):
                loaded.waiting.add(name)
            level = logging.INFO if candidate.mode else logging.DEBUG
            log.log(level, "%s does not load: %s", name, loaded.reasons[name])
            return False
        programs = opened.programs()
        waiting: set[str] = set()
        with _timed(loaded):
            attached, reasons = self._attach(opened, programs, loaded, waiting)
        if candidate.mode and reasons:  # the next alternative may do better than a part of this one
            opened.close()
            loaded.reasons[name] = next(iter(reasons.values()))
            if waiting == set(reasons):
                loaded.waiting.add(name)
            log.info("%s does not attach: %s", name, loaded.reasons[name])
            return False
        for program, reason in reasons.items():
            log.warning("%s: %s does not attach: %s", name, program, reason)
        loaded.config, loaded.object, loaded.mode = candidate.config, opened, candidate.mode
        loaded.programs, loaded.attached, loaded.waiting = programs, attached, waiting
        loaded.rings, loaded.cgroups = rings, followed
        loaded.reasons.update(reasons)
        return True

    def _fed(self, config: Config, opened: Object | BccObject) -> tuple[dict[str, Rings], CgroupIds | None]:
        """Threads that read a program's rings, and what keeps its cgroup_id_map; they end when the object is closed."""
        maps = opened.maps()
        rings: dict[str, Rings] = {}
        try:
            for metric in config.counters:
                if metric.perf_event_array:
                    ring = Rings(self.library, maps[metric.name], metric, self._prepare)
                    opened.closing.append(ring.close)
                    rings[metric.name] = ring
            if config.cgroup_id_map is None:
                return rings, None
            if self.decoders.cgroups.root is None:
                raise CannotLoad("cgroup v2 is not mounted, whose cgroups cgroup_id_map is about")
            followed = CgroupIds(self.library, maps[config.cgroup_id_map.name], config.cgroup_id_map)
            opened.closing.append(self.decoders.cgroups.follow(followed.changed))
        except (LibbpfError, CannotLoad):
            opened.close()
            raise
        return rings, followed

    def _loaded(self, candidate: Candidate, loaded: Loaded) -> Object | BccObject:
        """In the kernel, but not attached yet; nothing is left behind when that fails."""
        with _timed(loaded):
            return self._in_kernel(candidate, loaded.plan.settings)

    def _in_kernel(self, candidate: Candidate, settings: LoadSettings) -> Object | BccObject:
        config = candidate.config
        if candidate.source is not None:
            compiled = BccObject(candidate.source, self._values(config, settings))
            mistakes = Mistakes()
            check_maps(config, compiled.maps(), mistakes)
            if mistakes:
                compiled.close()
                raise CannotLoad("; ".join(mistakes.found))
            return compiled
        opened = self.library.open(config.object, self.btf)
        try:
            sizes = opened.constants()
            for name, value in self._values(config, settings).items():
                opened.set_constant(name, encode(value, sizes[name][1]))
            opened.load()
        except (LibbpfError, CannotLoad):
            opened.close()
            raise
        return opened

    def _attach(
        self, opened: Object | BccObject, programs: list[Program], loaded: Loaded, waiting: set[str]
    ) -> tuple[set[str], dict[str, str]]:
        """(names attached, why others are not); `waiting` is told which of those a module may help."""
        attached, reasons = set(), {}
        for program in programs:
            try:
                if is_xdp(program) and isinstance(opened, Object):
                    loaded.xdp[program.name] = attach_xdp(opened, program, loaded.plan.settings.xdp)
                elif xdp_watch.watches(program) and isinstance(opened, Object):
                    self._watch(opened, program, loaded)
                elif is_pattern(program) and isinstance(opened, Object):
                    self._attach_pattern(opened, program)
                elif program.section.startswith(perf_event.SECTION) and isinstance(opened, Object):
                    perf_event.attach(opened, program)
                else:
                    opened.attach(program)
                attached.add(program.name)
            except LibbpfError as problem:
                reasons[program.name] = explain_attach(problem, program)
                if may_come(problem, program):
                    waiting.add(program.name)
            except xdp_watch.NotThere as problem:
                reasons[program.name] = str(problem)
                waiting.add(program.name)
            except (XdpError, perf_event.PerfEventError, BccError) as problem:
                reasons[program.name] = str(problem)
        return attached, reasons

    def _watch(self, opened: Object, program: Program, loaded: Loaded) -> None:
        watch = xdp_watch.attach(opened, program, loaded.plan.settings.xdp)
        opened.closing.append(watch.close)
        loaded.watched[program.name] = watch
        log.info("%s watches XDP program %d on %s", program.name, watch.number, watch.device)

    def _attach_pattern(self, opened: Object, program: Program) -> None:
        if self._backend != "bcc":
            raise BccError(f"{program.section} is a pattern: --backend bcc attaches to all that matches")
        log.info("%s: attached by BCC to %d", program.name, attach_by_bcc(opened, program))

    def _values(self, config: Config, settings: LoadSettings) -> dict[str, int | str]:
        """The constants to set, with the addresses and cgroup ids that only this kernel knows."""
        values: dict[str, int | str] = {name: value for name, (value, _) in settings.values.items()}
        for symbol in config.kaddrs:
            address = self.decoders.kallsyms.address(symbol)
            if not address:
                raise CannotLoad(
                    f"this kernel has no symbol {symbol}, or hides addresses from a process without CAP_SYSLOG"
                )
            values[f"kaddr_{symbol}"] = address
        if settings.filter_cgroup:
            values["filter_cgroup"], values["filter_cgroup_level"] = cgroup_id(settings.filter_cgroup)
        if settings.filter_tgid:
            values["filter_tgid"] = settings.filter_tgid
        if settings.calls:
            values |= {"wanted_calls": bitmap(settings.calls), "every_call": 0}
        return values


def _nothing_yet(plan: Plan) -> Loaded:
    modes = tuple(candidate.mode for candidate in plan.candidates if candidate.mode)
    return Loaded(plan.name, plan, plan.candidates[0].config, mode_metric=plan.settings.mode_metric, modes=modes)


@contextmanager
def _timed(loaded: Loaded) -> Iterator[None]:
    begin = time.perf_counter()
    try:
        yield
    finally:
        loaded.seconds += time.perf_counter() - begin


def cgroup_id(path: str, root: Path | None = None) -> tuple[int, int]:
    """(id, level) of a cgroup by its folder. `CannotLoad` if there is none, or it is not of cgroup v2."""
    top = root or cgroups.root()
    if top is None:
        raise CannotLoad("cgroup v2 is not mounted")
    folder = Path(os.path.realpath(path))
    if not folder.is_relative_to(top):
        raise CannotLoad(f"{path} is no cgroup of version 2: those are below {top}")
    try:
        return folder.stat().st_ino, len(folder.relative_to(top).parts)
    except OSError as problem:
        raise CannotLoad(f"there is no cgroup {path}: {problem.strerror}") from None
