"""Why a program does not load or attach, in plain language, from what libbpf said and what this kernel is."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from .capabilities import BPF, PERFMON, SYS_ADMIN
from .capabilities import effective as capabilities
from .libbpf import LibbpfError, Program

_BTF = Path("/sys/kernel/btf/vmlinux")
_KPROBES = Path("/sys/bus/event_source/devices/kprobe")
_ENOTSUPP = 524  # the kernel's own, which has no name outside
_NO_TYPE = ("is not found in vmlinux BTF", "failed to find kernel BTF type ID", "failed to resolve CO-RE relocation")
_TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))


def lockdown(file: Path = Path("/sys/kernel/security/lockdown")) -> str:
    """How far the kernel is locked down: none, integrity, confidentiality; empty if it does not say."""
    try:
        match = re.search(r"\[(\w+)\]", file.read_text())
    except OSError:
        return ""
    return match[1] if match else ""


def tracefs() -> Path | None:
    """Where the kernel's tracing files are; None if they are not mounted."""
    return next((folder for folder in _TRACEFS if (folder / "events").is_dir()), None)


def last_words(problem: LibbpfError, count: int = 3) -> str:
    """The end of what the verifier said, or else of what libbpf said."""
    lines = [line.strip() for line in problem.words.splitlines() if line.strip()]
    begin = next((i + 1 for i, line in enumerate(lines) if "BEGIN PROG LOAD LOG" in line), None)
    end = next((i for i, line in enumerate(lines) if "END PROG LOAD LOG" in line), None)
    if end is not None:
        lines = [line for line in lines[begin or 0 : end] if not line.startswith(("processed ", ";"))]
    return " | ".join(line.removeprefix("libbpf: ") for line in lines[-count:])


def explain_load(problem: LibbpfError) -> str:
    """Why an object does not load. Always a sentence; the verifier's words follow where they help."""
    words = problem.words
    if helper := re.search(r"(?:cannot use helper|unknown func) (bpf_\w+)#\d+", words):
        return _helper(helper[1])
    if match := re.search(r"failed to resolve CO-RE relocation <\w+> \[\d+\] (?:struct )?([\w.]+)", words):
        return f"this kernel has no {match[1]}, which the program reads"
    if match := re.search(r"failed to find kernel BTF type ID of '([\w.]+)'", words):
        return f"this kernel has no function or tracepoint {match[1]}, or its module is not loaded"
    if "failed to find valid kernel BTF" in words or not _BTF.exists():
        return (
            "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF), which portable programs need; --btf.path can name a file"
        )
    if problem.errno in {errno.EPERM, errno.EACCES} and (missing := _missing_capabilities()):
        return f"capability missing: {missing}"
    if problem.errno == errno.EPERM:
        return "the kernel does not permit it: a security module or lockdown forbids BPF programs of this type"
    if "kernel doesn't support" in words or "is not found in vmlinux BTF" in words:
        return f"this kernel lacks what the program hooks: {last_words(problem, 1)}"
    return f"the kernel refused it: {last_words(problem) or problem}"


def _helper(name: str) -> str:
    if name == "bpf_override_return":
        return "this kernel lets no BPF program override a function's result (CONFIG_BPF_KPROBE_OVERRIDE is off)"
    if not capabilities() >> SYS_ADMIN & 1 and name == "bpf_probe_write_user":
        return "capability missing: CAP_SYS_ADMIN, which writing into a process's memory takes"
    if name in {"bpf_probe_write_user", "bpf_probe_read_kernel"}:
        state = lockdown()
        how = f" ({state})" if state else ""
        return f"this kernel is locked down{how}: {name} is not allowed"
    return f"this kernel, or this type of program, does not have the helper {name}"


def _missing_capabilities() -> str:
    have = capabilities()
    if have >> SYS_ADMIN & 1:
        return ""
    wanted = {BPF: "CAP_BPF", PERFMON: "CAP_PERFMON"}
    return ", ".join(name for bit, name in wanted.items() if not have >> bit & 1)


def may_come(problem: LibbpfError, program: Program | None = None) -> bool:
    """Whether what a program hooks (None: or reads, while it is loaded) may be there once a module is, or tracefs."""
    if program is None:
        return problem.errno == errno.ESRCH or any(words in problem.words for words in _NO_TYPE)
    kind, _, target = program.section.partition("/")
    if kind in {"tp", "tracepoint"}:
        folder = tracefs()
        return folder is None or not (folder / "events" / target).is_dir()
    if kind in {"kprobe", "kretprobe", "kprobe.multi", "kretprobe.multi"} and not _KPROBES.exists():
        return False
    return problem.errno in {errno.ENOENT, errno.ESRCH} and kind.partition(".")[0] not in {
        "xdp",
        "uprobe",
        "uretprobe",
        "usdt",
    }


def explain_attach(problem: LibbpfError, program: Program) -> str:
    """Why a loaded program does not attach where its section says."""
    kind, _, target = program.section.partition("/")
    if kind in {"tp", "tracepoint"}:
        return _no_tracepoint(problem, target)
    if kind in {"kprobe", "kretprobe", "ksyscall", "kretsyscall", "kprobe.multi"}:
        if not _KPROBES.exists():
            return "this kernel has no kprobes (CONFIG_KPROBES is off)"
        if problem.errno == errno.ENOENT:
            return f"this kernel has no function {target} to probe, or its module is not loaded"
        if problem.errno == errno.EINVAL:
            return f"{target} cannot be probed so: it is not on the list of functions whose result may be overridden"
    if problem.errno == _ENOTSUPP and kind in {"fentry", "fexit"}:
        return "this kernel cannot hook functions (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS; on aarch64 from Linux 6.4)"
    if problem.errno == errno.EOPNOTSUPP:
        return f"programs of section {program.section} are not attached by themselves"
    if problem.errno in {errno.EPERM, errno.EACCES}:
        missing = _missing_capabilities()
        return (
            f"capability missing: {missing}"
            if missing
            else "the kernel does not permit it: lockdown or a security module"
        )
    return f"the kernel refused it: {last_words(problem, 1) or problem}"


def _no_tracepoint(problem: LibbpfError, target: str) -> str:
    folder = tracefs()
    if folder is None:
        return "tracefs is not mounted: mount -t tracefs none /sys/kernel/tracing"
    if not (folder / "events" / target).is_dir():
        return f"this kernel has no tracepoint {target}, or its module is not loaded"
    if problem.errno in {errno.EPERM, errno.EACCES}:
        return f"capability missing: {_missing_capabilities() or 'CAP_PERFMON'}"
    return f"the kernel refused it: {last_words(problem, 1) or problem}"
