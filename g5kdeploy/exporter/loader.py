"""Loads what the plans say: the first alternative that this kernel takes, with its constants set; and says what
became of each."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import cgroups
from .config import Config
from .decoders import Decoders
from .libbpf import LibbpfError, Library, Object, Program
from .load_settings import LoadSettings
from .plan import Candidate, Plan, encode
from .reasons import explain_attach, explain_load

log = logging.getLogger(__name__)


class CannotLoad(Exception):
    """Why one candidate does not load, as a sentence."""


@dataclass
class Loaded:
    """What became of a program: without an object it did not load. `attached` holds the names of its attached BPF
    programs."""

    name: str
    config: Config
    mode: str = ""
    mode_metric: str = ""
    object: Object | None = None
    programs: list[Program] = field(default_factory=list)
    attached: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)
    """Name of a candidate, or of a BPF program, → why it does not load or attach."""
    modes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        """Everything loaded and attached."""
        return self.object is not None and len(self.attached) == len(self.programs)


class Loader:
    """Puts programs into the kernel and takes them out again."""

    def __init__(self, library: Library, decoders: Decoders, btf: str = "") -> None:
        self.library = library
        self.decoders = decoders
        self.btf = btf

    def load(self, plan: Plan) -> Loaded:
        """Never raises for a kernel that does not take the program: the reasons stand in the result."""
        begin = time.perf_counter()
        modes = tuple(candidate.mode for candidate in plan.candidates if candidate.mode)
        loaded = Loaded(plan.name, plan.candidates[0].config, mode_metric=plan.settings.mode_metric, modes=modes)
        for candidate in plan.candidates:
            if self._try(candidate, plan.settings, loaded):
                break
        loaded.seconds = time.perf_counter() - begin
        return loaded

    def _try(self, candidate: Candidate, settings: LoadSettings, loaded: Loaded) -> bool:
        name = candidate.config.name
        opened: Object | None = None
        try:
            opened = self.library.open(candidate.config.object, self.btf)
            self._set_constants(opened, candidate.config, settings)
            opened.load()
        except (LibbpfError, CannotLoad) as problem:
            if opened:
                opened.close()
            loaded.reasons[name] = explain_load(problem) if isinstance(problem, LibbpfError) else str(problem)
            level = logging.INFO if candidate.mode else logging.WARNING
            log.log(level, "%s does not load: %s", name, loaded.reasons[name])
            return False
        programs = opened.programs()
        attached, reasons = self._attach(opened, programs)
        if candidate.mode and reasons:  # the next alternative may do better than a part of this one
            opened.close()
            loaded.reasons[name] = next(iter(reasons.values()))
            log.info("%s does not attach: %s", name, loaded.reasons[name])
            return False
        for program, reason in reasons.items():
            log.warning("%s: %s does not attach: %s", name, program, reason)
        loaded.config, loaded.object, loaded.mode = candidate.config, opened, candidate.mode
        loaded.programs, loaded.attached = programs, attached
        loaded.reasons.update(reasons)
        return True

    def _attach(self, opened: Object, programs: list[Program]) -> tuple[set[str], dict[str, str]]:
        attached, reasons = set(), {}
        for program in programs:
            try:
                opened.attach(program)
                attached.add(program.name)
            except LibbpfError as problem:
                reasons[program.name] = explain_attach(problem, program)
        return attached, reasons

    def _set_constants(self, opened: Object, config: Config, settings: LoadSettings) -> None:
        sizes = opened.constants()
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
        for name, value in values.items():
            opened.set_constant(name, encode(value, sizes[name][1]))


def cgroup_id(path: str, root: Path | None = None) -> tuple[int, int]:
    """(id, level) of a cgroup by its folder. `CannotLoad` if there is none, or it is not below the root of cgroup
    v2."""
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
