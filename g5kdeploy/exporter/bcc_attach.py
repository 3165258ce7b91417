"""BCC's way of attaching, for programs of an object: one program to every function or tracepoint whose name matches a pattern.

libbpf attaches to a pattern only with kprobe.multi, which not every kernel has (Debian's 6.1 does not). BCC does it with as many
probes. Maps are read by ourselves in any case: BCC's tables take fifteen times as long.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from .bcc_backend import BccError, bcc_module, captured
from .libbpf import Object, Program

_KINDS = {"kprobe": "kprobe", "kretprobe": "kretprobe", "tp": "tracepoint", "tracepoint": "tracepoint"}
_PROBES = ("kprobe_fds", "uprobe_fds", "tracepoint_fds", "raw_tracepoint_fds", "kfunc_entry_fds", "kfunc_exit_fds")
_EMPTY = (*_PROBES, "fmod_ret_fds", "lsm_fds", "perf_buffers", "open_perf_events", "funcs", "tables")


def is_pattern(program: Program) -> bool:
    """Whether a section is such as kprobe/nfs_* or tp/syscalls/sys_enter_*."""
    kind, _, target = program.section.partition("/")
    return kind in _KINDS and ("*" in target or "?" in target)


def expression(target: str) -> bytes:
    """The regular expression for a pattern in which * is any letters and ? any one."""
    return ("^" + re.escape(target).replace(r"\*", ".*").replace(r"\?", ".") + "$").encode()


def _bridge(bcc: Any, program: Program) -> Any:
    """A bcc.BPF that has compiled nothing, and one program, which was loaded by libbpf."""

    class Bridge(bcc.BPF):  # type: ignore[misc]
        def __init__(self) -> None:
            for name in _EMPTY:
                setattr(self, name, {})
            self.module = self.tracefile = self._ringbuf_manager = None
            self.debug = 0

    bridge = Bridge()
    name = program.name.encode()
    bridge.funcs[name] = bcc.BPF.Function(bridge, name, os.dup(program.fd))  # it closes what it has
    return bridge


def attach(opened: Object, program: Program) -> int:
    """Attach to all that matches, until the object is closed; to how many. `BccError` if that is nothing."""
    bcc = bcc_module()
    bridge = _bridge(bcc, program)
    kind, _, target = program.section.partition("/")
    words = {"fn_name": program.name.encode()}
    with captured() as said:
        try:
            if _KINDS[kind] == "tracepoint":
                bridge.attach_tracepoint(tp_re=expression(target.replace("/", ":", 1)), **words)
            else:
                getattr(bridge, f"attach_{kind}")(event_re=expression(target), **words)
        except Exception as problem:  # noqa: BLE001 - BCC raises bare Exception
            bridge.cleanup()
            raise BccError(f"BCC attaches to nothing like {target}: {said().strip() or problem}") from None
    count = sum(len(getattr(bridge, name)) for name in _PROBES)
    if not count:
        bridge.cleanup()
        raise BccError(f"this kernel has nothing like {target}, or its module is not loaded")
    opened.closing.append(_ending(bridge))
    return count


def _ending(bridge: Any) -> Callable[[], None]:
    def end() -> None:
        with captured():
            bridge.cleanup()

    return end
