"""Programs that come as C source, X.bcc.c, compiled on the node by BCC: the distribution's package python3-bpfcc.

It takes over a hundred megabytes and seconds, and the headers of the running kernel; so it is imported here, when a program
asks for it, and by nobody else. What it loads looks like an object of libbpf: maps by their descriptors, programs by name.
"""

from __future__ import annotations

import ctypes as ct
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .libbpf import LibbpfError, Map, Program

_ATTACHED = ("kprobe_fds", "uprobe_fds", "tracepoint_fds", "raw_tracepoint_fds", "kfunc_entry_fds", "kfunc_exit_fds")
_TABLE: dict[str, Any] = {
    "name": ct.c_char_p,
    "type_id": ct.c_int,
    "key_size_id": ct.c_size_t,
    "leaf_size_id": ct.c_size_t,
    "max_entries_id": ct.c_size_t,
    "fd_id": ct.c_int,
}
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


class BccError(Exception):
    """Why a source does not become a program, as a sentence."""


def source(folder: Path, name: str) -> Path:
    """Where the C source of a program would be."""
    return folder / f"{name}.bcc.c"


def bcc_module() -> Any:
    """The distribution's BCC. `BccError` if it is not here."""
    try:
        import bcc
    except ImportError as problem:
        raise BccError(f"BCC is not here ({problem}); on Debian it is in the package python3-bpfcc") from None
    if not hasattr(bcc, "BPF"):
        raise BccError(f"{bcc.__file__} is another package called bcc, from PyPI: it hides the distribution's")
    return bcc


def headers() -> Path | None:
    """The kernel headers that BCC will find; None if there are none."""
    places = [os.environ.get("BCC_KERNEL_SOURCE", ""), f"/lib/modules/{os.uname().release}/build"]
    for place in [*places, "/sys/kernel/kheaders.tar.xz"]:
        if place and Path(place).exists():
            return Path(place)
    return None


class BccObject:
    """A source that was compiled and loaded. BCC attaches what it can tell from a function's name (TRACEPOINT_PROBE,
    kprobe__..., kfunc); there is nothing else to attach.
    """

    def __init__(self, path: Path, values: Mapping[str, int | str]) -> None:
        """`values` become macros, so that the source can use them. `BccError` says what failed."""
        self.closing: list[Callable[[], None]] = []
        bcc = bcc_module()
        if headers() is None:
            release = os.uname().release
            raise BccError(f"BCC needs the headers of this kernel: the package linux-headers-{release}")
        flags = [f"-D{name}={_literal(name, value)}" for name, value in values.items()]
        with captured() as said:
            try:
                self._bpf: Any = bcc.BPF(src_file=os.fsencode(path), cflags=flags)
            except Exception as problem:  # noqa: BLE001 - BCC raises bare Exception
                raise BccError(f"{path.name}: {_last(said()) or problem}") from None
        self._tables: dict[str, Any] = {name: getattr(bcc.libbcc.lib, f"bpf_table_{name}") for name in _TABLE}
        for name, result in _TABLE.items():  # not all of them are declared there
            self._tables[name].restype, self._tables[name].argtypes = result, [ct.c_void_p, ct.c_size_t]
        count = bcc.libbcc.lib.bpf_num_tables
        count.restype, count.argtypes = ct.c_size_t, [ct.c_void_p]
        self._count: int = count(self._bpf.module)

    def maps(self) -> dict[str, Map]:
        found = {}
        for number in range(self._count):
            told = {name: function(self._bpf.module, number) for name, function in self._tables.items()}
            name = told["name"].decode()
            sizes = (told["key_size_id"], told["leaf_size_id"], told["max_entries_id"])
            found[name] = Map(name, told["type_id"], *sizes, told["fd_id"])
        return found

    def programs(self) -> list[Program]:
        return [
            Program(name.decode() if isinstance(name, bytes) else str(name), "bcc", 0, int(function.fd))
            for name, function in self._bpf.funcs.items()
        ]

    def attach(self, program: Program) -> None:
        """Attached already, or never: `LibbpfError` if BCC attached nothing at all."""
        if not any(getattr(self._bpf, kind, None) for kind in _ATTACHED):
            raise LibbpfError(f"{program.name} is attached to nothing: its name does not tell BCC where to", 95)

    def close(self) -> None:
        """Detach and unload."""
        while self.closing:
            self.closing.pop()()
        self._bpf.cleanup()


def _literal(name: str, value: int | str) -> str:
    if not _IDENTIFIER.fullmatch(name):
        raise BccError(f"{name!r} cannot be the name of a macro")
    if isinstance(value, int):
        return str(value)
    escaped = "".join(
        c if c.isprintable() and c not in '"\\' else "".join(f"\\{b:03o}" for b in c.encode()) for c in value
    )
    return f'"{escaped}"'


@contextmanager
def captured() -> Iterator[Any]:
    """What the compiler says on the process's own descriptors 1 and 2; a function that returns it."""
    with open(os.memfd_create("said"), "w+b") as kept:  # noqa: PTH123 - a descriptor, no path
        before = [os.dup(1), os.dup(2)]
        os.dup2(kept.fileno(), 1)
        os.dup2(kept.fileno(), 2)

        def said() -> str:
            kept.seek(0)
            return kept.read().decode(errors="replace")

        try:
            yield said
        finally:
            for number, old in enumerate(before, 1):
                os.dup2(old, number)
                os.close(old)


def _last(text: str) -> str:
    """The compiler's errors, or else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line]
    return " | ".join(errors[:3] or lines[-1:])
