"""bpf(2) by itself, without libbpf: programs of a few instructions, to see what a kernel takes."""

from __future__ import annotations

import contextlib
import ctypes as ct
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

_CALLS = {  # bpf, perf_event_open
    "x86_64": (321, 298),
    "aarch64": (280, 241),
    "ppc64le": (361, 319),
}
_PROG_LOAD, _RAW_TRACEPOINT_OPEN, _LINK_CREATE = 5, 17, 28
KPROBE, TRACEPOINT, XDP, RAW_TRACEPOINT, TRACING, LSM = 2, 5, 6, 17, 26, 29
AT_RAW_TP, AT_FENTRY, AT_FEXIT, AT_MODIFY_RETURN, AT_LSM, AT_XDP, AT_KPROBE_MULTI = 23, 24, 25, 26, 27, 37, 42
_SET_BPF, _ENABLE = 0x40042408, 0x2400  # PERF_EVENT_IOC_
_LOG = 64 << 10
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_BTF_MAGIC = 0xEB9F
BTF_FUNC, BTF_TYPEDEF = 12, 8
# Bytes behind a type of BTF: so many, and so many for each of its members.
_BEHIND = {
    1: (4, 0),
    3: (12, 0),
    4: (0, 12),
    5: (0, 12),
    6: (0, 8),
    13: (0, 8),
    14: (4, 0),
    15: (0, 12),
    17: (4, 0),
    19: (0, 12),
}

Instruction = bytes


class Refused(Exception):
    """The kernel said no: the positive errno, and the verifier's last line."""

    def __init__(self, number: int, words: str = "") -> None:
        super().__init__(f"{os.strerror(number) if number < 512 else f'error {number}'}{f': {words}' if words else ''}")
        self.errno = number
        self.words = words


def instruction(code: int, registers: int = 0, offset: int = 0, value: int = 0) -> Instruction:
    """One instruction; `registers`: the source's number shifted by 4, and the destination's."""
    return struct.pack("<BBhi", code, registers, offset, value)


def call(helper: int) -> Instruction:
    """A call of the helper with that number."""
    return instruction(0x85, value=helper)


RETURN_0 = instruction(0xB7) + instruction(0x95)
RETURN_PASS = instruction(0xB7, value=2) + instruction(0x95)  # XDP_PASS
# Override the call if the caller is process 0, which calls nothing: loaded and attached, it never does.
OVERRIDE = instruction(0xBF, 0x16) + call(14) + instruction(0x55, 0, 3) + instruction(0xBF, 0x61)
OVERRIDE += instruction(0xB7, 2) + call(58) + RETURN_0
# Write 8 bytes of the stack to address 0. Never attached.
WRITE_USER = instruction(0x7A, 10, -8) + instruction(0xB7, 1) + instruction(0xBF, 0xA2)
WRITE_USER += instruction(0x07, 2, value=-8) + instruction(0xB7, 3, value=8) + call(36) + RETURN_0

_libc = ct.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    numbers = _CALLS.get(platform.machine())
    if numbers is None:
        raise Refused(38)  # ENOSYS
    result = int(_libc.syscall(numbers[0], command, attributes, len(attributes)))
    if result < 0:
        raise Refused(ct.get_errno())
    return result


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[int]:
    """Close it at the end of the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """A network namespace for this thread alone, with nothing but a loopback interface, until the end of the block."""
    with closing(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)) as before:
        if _libc.unshare(_NEW_NETWORK):
            raise Refused(ct.get_errno())
        try:
            yield
        finally:
            _libc.setns(before, _NEW_NETWORK)


def load(kind: int, code: bytes, attach_type: int = 0, target: int = 0) -> int:
    """Load a program; its descriptor. `target`: the number of the type in the kernel's BTF that it is for."""
    log = ct.create_string_buffer(_LOG)
    held = (ct.create_string_buffer(code, len(code)), ct.create_string_buffer(b"GPL"))
    attributes = struct.pack(
        "<IIQQIIQII16sII36xI32x",
        kind,
        len(code) // 8,
        ct.addressof(held[0]),
        ct.addressof(held[1]),
        1,
        _LOG,
        ct.addressof(log),
        0,
        0,
        b"g5k_probe",
        0,
        attach_type,
        target,
    )
    try:
        return _bpf(_PROG_LOAD, attributes)
    except Refused as problem:
        lines = [line for line in log.value.decode(errors="replace").splitlines() if line[:9] != "processed"]
        raise Refused(problem.errno, lines[-1] if lines else "") from None


def attach_raw(program: int, name: str = "") -> int:
    """Attach to a raw tracepoint by name, or where the program's BTF type says."""
    text = ct.create_string_buffer(name.encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI4x", ct.addressof(text) if name else 0, program))


def attach_xdp(program: int, index: int) -> int:
    """Attach to a network device by its index, in the generic way, which every device can."""
    return _bpf(_LINK_CREATE, struct.pack("<IIII48x", program, index, AT_XDP, 2))


def attach_kprobe_multi(program: int, function: str) -> int:
    """Attach by fprobe, as many functions at once are."""
    name = ct.create_string_buffer(function.encode())
    names = (ct.c_void_p * 1)(ct.addressof(name))
    attributes = struct.pack("<IIIIIIQQQ16x", program, 0, AT_KPROBE_MULTI, 0, 0, 1, ct.addressof(names), 0, 0)
    return _bpf(_LINK_CREATE, attributes)


def attach_event(program: int, kind: int, config: int = 0, function: str = "") -> int:
    """Attach to a perf event: a tracepoint by its number, or a kprobe by the function's name."""
    name = ct.create_string_buffer(function.encode())
    event = struct.pack("<IIQ", kind, 112, config).ljust(56, b"\0")
    event = (event + struct.pack("<Q", ct.addressof(name) if function else 0)).ljust(112, b"\0")
    descriptor = int(_libc.syscall(_CALLS[platform.machine()][1], event, -1, 0, -1, 8))
    if descriptor < 0:
        raise Refused(ct.get_errno())
    if _libc.ioctl(descriptor, ct.c_ulong(_SET_BPF), program) or _libc.ioctl(descriptor, ct.c_ulong(_ENABLE), 0):
        number = ct.get_errno()
        os.close(descriptor)
        raise Refused(number)
    return descriptor


def btf_types(names: dict[str, int], file: Path = Path("/sys/kernel/btf/vmlinux")) -> dict[str, int]:
    """The numbers of types in the kernel's BTF; `names`: name → kind. What is not there is left out."""
    raw = file.read_bytes()
    magic, _, _, header, types, length, strings, _ = struct.unpack_from("<HBBIIIII", raw)
    if magic != _BTF_MAGIC:
        return {}
    wanted = {}
    for name, kind in names.items():
        at = raw.find(b"\0" + name.encode() + b"\0", header + strings)
        if at >= 0:
            wanted[at + 1 - header - strings, kind] = name
    found: dict[str, int] = {}
    position, end, number = header + types, header + types + length, 0
    while position < end and len(found) < len(wanted):
        number += 1
        name_at, info = struct.unpack_from("<II", raw, position)
        kind = info >> 24 & 0x1F
        if (name_at, kind) in wanted:
            found.setdefault(wanted[name_at, kind], number)
        fixed, each = _BEHIND.get(kind, (0, 0))
        position += 12 + fixed + each * (info & 0xFFFF)
    return found
