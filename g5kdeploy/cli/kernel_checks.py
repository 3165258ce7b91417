"""What `doctor --node` tells of a node's kernel, as findings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from g5kdeploy.cli.checks import Finding

if TYPE_CHECKING:
    from g5kdeploy.node import KernelAnswer

# Kind -> what of ours is of it, or what it is good for.
_FOR = {
    "tp": "system calls: statx",
    "raw_tp": "events without arguments of their own",
    "tp_btf": "network, storage and scheduler events",
    "kprobe": "any kernel function",
    "kprobe.multi": "many kernel functions at once",
    "fentry": "kernel functions, cheaply",
    "fexit": "kernel functions' results, cheaply",
    "fmod_ret": "changing a function's result",
    "lsm": "refusing an operation",
    "override": "statx_mock_override",
    "probe_write_user": "statx_mock",
    "xdp": "packets at a device",
}


def findings(answer: KernelAnswer) -> Iterator[Finding]:
    """The kernel, each kind of program, each program of ours. Nothing here can be mended but by another kernel."""
    yield Finding("kernel", "ok", f"{answer.kernel}, {answer.machine}", "everything")
    yield Finding("python", "ok", answer.python, "the exporter")
    if answer.libbpf.startswith("none"):
        yield Finding(
            "libbpf", "missing", answer.libbpf.removeprefix("none: "), "the exporter", "apt-get install libbpf1"
        )
    else:
        yield Finding("libbpf", "ok", answer.libbpf, "the exporter")
    if answer.btf:
        yield Finding("BTF", "ok", "/sys/kernel/btf/vmlinux", "every program of ours")
    else:
        yield Finding("BTF", "missing", "CONFIG_DEBUG_INFO_BTF is off", "every program of ours", "another kernel")
    state = "ok" if answer.lockdown in {"", "none"} else "warning"
    yield Finding("lockdown", state, answer.lockdown or "not told", "kprobe, fentry, probe_write_user")
    told = ", ".join(f"{name}={value}" for name, value in answer.config.items())
    yield Finding("config", "ok" if told else "warning", told or "the kernel does not tell its configuration")
    for kind in answer.kinds:
        yield Finding(kind.name, "ok" if kind.works else "warning", kind.why or "works", _FOR.get(kind.name, ""))
    for program in answer.programs:
        state = "ok" if program.works else "warning"
        yield Finding(f"program {program.name}", state, program.why or "loads and attaches")
    if not answer.programs and not answer.libbpf.startswith("none"):
        yield Finding("programs", "warning", "none are built here", mend="make -C bpf")
