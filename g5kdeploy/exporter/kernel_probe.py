"""What this kernel can do for BPF programs, found by trying: each kind loaded and attached for a moment, then our objects.

Needs Python and root alone; the objects need libbpf.so.1, too. Nothing that is tried changes what anybody sees. Prints JSON.

    python3 -m g5kdeploy_exporter.kernel_probe [FOLDER OF OBJECTS]
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import bpf_call as bpf
from .reasons import lockdown, tracefs

OPTIONS = (
    "BPF_SYSCALL", "BPF_JIT", "DEBUG_INFO_BTF", "DEBUG_INFO_BTF_MODULES", "KPROBES", "FTRACE_SYSCALLS", "FPROBE", "BPF_LSM",
    "FUNCTION_ERROR_INJECTION", "BPF_KPROBE_OVERRIDE", "XDP_SOCKETS", "IKHEADERS", "SECURITY_LOCKDOWN_LSM", "MODULES",
)  # fmt: skip
_SYSCALL = {"x86_64": "__x64_sys_statx", "aarch64": "__arm64_sys_statx"}.get(platform.machine(), "sys_statx")
_TRACEPOINT, _LSM_HOOK = "btf_trace_sys_enter", "bpf_lsm_file_open"
_LOOPBACK = 1
_KPROBE_TYPE = Path("/sys/bus/event_source/devices/kprobe/type")
_OFF = {
    "kprobe": "CONFIG_KPROBES is off",
    "kprobe.multi": "CONFIG_FPROBE is off, or the kernel is older than 5.18",
    "override": "CONFIG_BPF_KPROBE_OVERRIDE is off",
    "fmod_ret": "this function's result may not be changed there",
    "lsm": "`bpf` is not among the security modules (lsm=), or CONFIG_BPF_LSM is off",
}


def _tp(_: dict[str, int]) -> int:
    folder = tracefs()
    if folder is None:
        raise bpf.Refused(errno.ENOENT, "tracefs is not mounted: mount -t tracefs none /sys/kernel/tracing")
    number = folder / "events" / "syscalls" / "sys_enter_statx" / "id"
    if not number.exists():
        raise bpf.Refused(errno.ENOENT, "CONFIG_FTRACE_SYSCALLS is off")
    with bpf.closing(bpf.load(bpf.TRACEPOINT, bpf.RETURN_0)) as program:
        return bpf.attach_event(program, 2, int(number.read_text()))


def _raw_tp(_: dict[str, int]) -> int:
    with bpf.closing(bpf.load(bpf.RAW_TRACEPOINT, bpf.RETURN_0)) as program:
        return bpf.attach_raw(program, "sys_enter")


def _by_type(kind: int, attach_type: int, name: str) -> Callable[[dict[str, int]], int]:
    def attach(types: dict[str, int]) -> int:
        if name not in types:
            raise bpf.Refused(errno.ENOENT, f"{name} is not in the kernel's BTF")
        with bpf.closing(bpf.load(kind, bpf.RETURN_0, attach_type, types[name])) as program:
            return bpf.attach_raw(program)

    return attach


def _kprobe(code: bytes) -> Callable[[dict[str, int]], int]:
    def attach(_: dict[str, int]) -> int:
        with bpf.closing(bpf.load(bpf.KPROBE, code)) as program:
            if not _KPROBE_TYPE.exists():
                raise bpf.Refused(errno.ENOENT, _OFF["kprobe"])
            return bpf.attach_event(program, int(_KPROBE_TYPE.read_text()), function=_SYSCALL)

    return attach


def _kprobe_multi(_: dict[str, int]) -> int:
    with bpf.closing(bpf.load(bpf.KPROBE, bpf.RETURN_0, bpf.AT_KPROBE_MULTI)) as program:
        return bpf.attach_kprobe_multi(program, _SYSCALL)


def _write_user(_: dict[str, int]) -> int:
    return bpf.load(bpf.RAW_TRACEPOINT, bpf.WRITE_USER)


def _xdp(_: dict[str, int]) -> int:
    with bpf.own_network(), bpf.closing(bpf.load(bpf.XDP, bpf.RETURN_PASS, bpf.AT_XDP)) as program:
        return bpf.attach_xdp(program, _LOOPBACK)


KINDS: dict[str, Callable[[dict[str, int]], int]] = {
    "tp": _tp,
    "raw_tp": _raw_tp,
    "tp_btf": _by_type(bpf.TRACING, bpf.AT_RAW_TP, _TRACEPOINT),
    "kprobe": _kprobe(bpf.RETURN_0),
    "kprobe.multi": _kprobe_multi,
    "fentry": _by_type(bpf.TRACING, bpf.AT_FENTRY, _SYSCALL),
    "fexit": _by_type(bpf.TRACING, bpf.AT_FEXIT, _SYSCALL),
    "fmod_ret": _by_type(bpf.TRACING, bpf.AT_MODIFY_RETURN, _SYSCALL),
    "lsm": _by_type(bpf.LSM, bpf.AT_LSM, _LSM_HOOK),
    "override": _kprobe(bpf.OVERRIDE),
    "probe_write_user": _write_user,
    "xdp": _xdp,
}
"""Kind → loads it and attaches it; the descriptor that holds it."""


def kinds() -> list[dict[str, Any]]:
    """Every kind: name, works, why not."""
    names = {_TRACEPOINT: bpf.BTF_TYPEDEF, _SYSCALL: bpf.BTF_FUNC, _LSM_HOOK: bpf.BTF_FUNC}
    try:
        types = bpf.btf_types(names)
    except OSError:
        types = {}
    found = []
    for name, attempt in KINDS.items():
        why = ""
        try:
            os.close(attempt(types))
        except bpf.Refused as problem:
            why = _why(name, problem)
        found.append({"name": name, "works": not why, "why": why})
    return found


def _why(name: str, problem: bpf.Refused) -> str:
    locked = lockdown()
    if name == "probe_write_user" and "cannot use helper" in problem.words:
        return f"not permitted: the kernel is locked down ({locked or 'its security files are not mounted'})"
    if problem.errno in {errno.EPERM, errno.EACCES}:
        why = f"the kernel is locked down ({locked})" if locked not in {"", "none"} else "lockdown or a security module"
        return f"not permitted: {why}"
    if problem.errno in {errno.EINVAL, errno.EOPNOTSUPP, errno.ESRCH, errno.ENOENT, 524} and name in _OFF:
        return f"{_OFF[name]} ({problem})" if problem.words != _OFF[name] else problem.words
    return problem.words or str(problem)


def options() -> dict[str, str]:
    """The kernel's configuration, of what matters here: y, m, n; empty where it is not told."""
    packed, plain = Path("/proc/config.gz"), Path(f"/boot/config-{platform.release()}")
    try:
        text = gzip.decompress(packed.read_bytes()).decode() if packed.exists() else plain.read_text()
    except OSError:
        return {}
    lines = dict(line.split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name: lines.get(f"CONFIG_{name}", "n") for name in OPTIONS}


def objects(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """(libbpf's version or why there is none, every object of a folder: name, works, why not)."""
    from .libbpf import LibbpfError, Library

    try:
        library = Library()
    except LibbpfError as problem:
        return f"none: {problem}", []
    found = []
    for file in sorted(folder.glob("*.bpf.o")):
        why = _try(library, file)
        found.append({"name": file.name.removesuffix(".bpf.o"), "works": not why, "why": why})
    return library.version, found


def _try(library: Any, file: Path) -> str:
    """Why an object does not load or does not attach; empty if it does both. XDP devices are chosen later: load alone."""
    from .libbpf import LibbpfError
    from .reasons import explain_attach, explain_load

    try:
        opened = library.open(file)
    except LibbpfError as problem:
        return str(problem)
    try:
        opened.load()
        reasons = []
        for program in opened.programs():
            if program.section.startswith(("xdp", "perf_event")):
                continue
            try:
                opened.attach(program)
            except LibbpfError as problem:
                reasons.append(explain_attach(problem, program))
        return "; ".join(dict.fromkeys(reasons))
    except LibbpfError as problem:
        return explain_load(problem)
    finally:
        opened.close()


def main() -> None:
    """Everything, as one JSON document."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    version, programs = objects(folder) if folder else ("not looked for", [])
    document = {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "libbpf": version,
        "btf": Path("/sys/kernel/btf/vmlinux").exists(),
        "lockdown": lockdown(),
        "config": options(),
        "kinds": kinds(),
        "programs": programs,
    }
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
