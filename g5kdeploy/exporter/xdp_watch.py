"""Watching an XDP program that somebody else has loaded: programs of section `fexit` without a function.

The kernel checks such a program against the one that it watches. So the object is opened anew for each XDP program that comes onto
the device, with the maps of its first opening: what was counted before stays.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import socket
import struct
from dataclasses import dataclass

from .libbpf import LibbpfError, Library, Object, Program
from .reasons import last_words
from .xdp import XdpError, XdpSettings, device_of

_FUNC_INFO = 8  # bytes of struct bpf_func_info: an instruction, and a function's number in the program's BTF
_INFO = 224  # of struct bpf_prog_info, up to all that is used of it
_BTF_ID, _FUNC_INFOS = 128, 132  # offsets: btf_id; func_info_rec_size, func_info, nr_func_info


class NotThere(XdpError):
    """There is no XDP program on the device. One may come."""


@dataclass
class Watch:
    """A program that watches the XDP program of that number on a device."""

    program: Program
    device: str
    number: int
    opened: Object

    def close(self) -> None:
        """Let go of the XDP program, which the kernel keeps as long as it is watched."""
        self.program.fd = -1
        self.opened.close()


def watches(program: Program) -> bool:
    """Whether a program is one for somebody else's XDP program."""
    return program.section == "fexit"


def program_on(library: Library, device: str) -> int:
    """The kernel's number of the XDP program on a device; 0 where there is none, or no such device."""
    number = ct.c_uint32()
    try:
        index = socket.if_nametoindex(device)
    except OSError:
        return 0
    library.call.bpf_xdp_query_id(index, 0, ct.byref(number))
    return number.value


def attach(opened: Object, program: Program, settings: XdpSettings) -> Watch:
    """Watch the XDP program that is on the device now. `NotThere` if there is none, `XdpError` if it cannot be watched."""
    device = device_of(program, settings)
    library = opened.library
    number = program_on(library, device)
    if not number:
        raise NotThere(f"there is no XDP program on {device} to watch")
    target = library.call.bpf_prog_get_fd_by_id(number)
    if target < 0:
        raise XdpError(_explain(-target, f"XDP program {number} on {device}"))
    twin = opened.again()
    try:
        name = _function(library, target)
        own = next(each for each in twin.programs() if each.name == program.name)
        twin.aim(own, target, name)
        twin.load()
        twin.attach(own)
    except LibbpfError as problem:
        twin.close()
        words = last_words(problem) or str(problem)
        raise XdpError(f"the XDP program on {device} cannot be watched: {words}") from None
    finally:
        os.close(target)
    program.fd = own.fd
    return Watch(program, device, number, twin)


def _explain(number: int, what: str) -> str:
    if number == errno.EPERM:
        return f"capability missing: CAP_SYS_ADMIN, which it takes to look at somebody else's {what}"
    return f"{what} cannot be looked at: {os.strerror(number)}"


def _function(library: Library, descriptor: int) -> str:
    """The whole name of a program's main function: the kernel's own for a program has at most 15 characters."""
    info, first = ct.create_string_buffer(_INFO), ct.create_string_buffer(_FUNC_INFO)
    length = ct.c_uint32(_INFO)
    struct.pack_into("<IQI", info, _FUNC_INFOS, _FUNC_INFO, ct.addressof(first), 1)
    result = library.call.bpf_obj_get_info_by_fd(descriptor, info, ct.byref(length))
    if result:
        raise LibbpfError("it cannot be looked at", -result)
    (btf_number,) = struct.unpack_from("<I", info, _BTF_ID)
    btf = library.call.btf__load_from_kernel_by_id(btf_number) if btf_number else None
    if not btf:
        raise LibbpfError("it was loaded without BTF", errno.ENOENT)
    try:
        (type_number,) = struct.unpack_from("<I", first, 4)
        name_at = ct.cast(library.call.btf__type_by_id(btf, type_number), ct.POINTER(ct.c_uint32))[0]
        return bytes(library.call.btf__name_by_offset(btf, name_at)).decode()
    finally:
        library.call.btf__free(btf)
