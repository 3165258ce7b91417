"""libbpf.so.1 through ctypes: open an object, set its constants, load it, attach its programs.

Only what the exporter uses is bound. No compiler, no headers, and 3 ms to load where bcc takes seconds.
"""

from __future__ import annotations

import ctypes as ct
import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "libbpf_major_version": (ct.c_uint32, []),
    "libbpf_version_string": (ct.c_char_p, []),
    "libbpf_num_possible_cpus": (ct.c_int, []),
    "libbpf_set_print": (ct.c_void_p, [ct.c_void_p]),
    "libbpf_register_prog_handler": (ct.c_int, [ct.c_char_p, ct.c_int, ct.c_int, ct.c_void_p]),
    "bpf_object__open_file": (ct.c_void_p, [ct.c_char_p, ct.c_void_p]),
    "bpf_object__load": (ct.c_int, [ct.c_void_p]),
    "bpf_object__close": (None, [ct.c_void_p]),
    "bpf_object__btf": (ct.c_void_p, [ct.c_void_p]),
    "bpf_object__next_program": (ct.c_void_p, [ct.c_void_p, ct.c_void_p]),
    "bpf_object__next_map": (ct.c_void_p, [ct.c_void_p, ct.c_void_p]),
    "bpf_program__name": (ct.c_char_p, [ct.c_void_p]),
    "bpf_program__section_name": (ct.c_char_p, [ct.c_void_p]),
    "bpf_program__fd": (ct.c_int, [ct.c_void_p]),
    "bpf_program__set_autoload": (ct.c_int, [ct.c_void_p, ct.c_bool]),
    "bpf_program__set_attach_target": (ct.c_int, [ct.c_void_p, ct.c_int, ct.c_char_p]),
    "bpf_program__attach": (ct.c_void_p, [ct.c_void_p]),
    "bpf_program__attach_perf_event": (ct.c_void_p, [ct.c_void_p, ct.c_int]),
    "bpf_link__destroy": (ct.c_int, [ct.c_void_p]),
    "bpf_link_create": (ct.c_int, [ct.c_int, ct.c_int, ct.c_int, ct.c_void_p]),
    "bpf_map__name": (ct.c_char_p, [ct.c_void_p]),
    "bpf_map__fd": (ct.c_int, [ct.c_void_p]),
    "bpf_map__type": (ct.c_int, [ct.c_void_p]),
    "bpf_map__key_size": (ct.c_uint32, [ct.c_void_p]),
    "bpf_map__value_size": (ct.c_uint32, [ct.c_void_p]),
    "bpf_map__max_entries": (ct.c_uint32, [ct.c_void_p]),
    "bpf_map__reuse_fd": (ct.c_int, [ct.c_void_p, ct.c_int]),
    "bpf_map__initial_value": (ct.c_void_p, [ct.c_void_p, ct.POINTER(ct.c_size_t)]),
    "bpf_map_get_next_key": (ct.c_int, [ct.c_int, ct.c_void_p, ct.c_void_p]),
    "bpf_map_lookup_elem": (ct.c_int, [ct.c_int, ct.c_void_p, ct.c_void_p]),
    "bpf_map_lookup_batch": (
        ct.c_int,
        [ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_void_p, ct.c_void_p, ct.POINTER(ct.c_uint32), ct.c_void_p],
    ),
    "bpf_map_update_elem": (ct.c_int, [ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_uint64]),
    "bpf_map_delete_elem": (ct.c_int, [ct.c_int, ct.c_void_p]),
    "perf_buffer__new": (
        ct.c_void_p,
        [ct.c_int, ct.c_size_t, ct.c_void_p, ct.c_void_p, ct.c_void_p, ct.c_void_p],
    ),
    "perf_buffer__epoll_fd": (ct.c_int, [ct.c_void_p]),
    "perf_buffer__consume": (ct.c_int, [ct.c_void_p]),
    "perf_buffer__free": (None, [ct.c_void_p]),
    "btf__find_by_name_kind": (ct.c_int, [ct.c_void_p, ct.c_char_p, ct.c_uint32]),
    "bpf_xdp_query_id": (ct.c_int, [ct.c_int, ct.c_int, ct.POINTER(ct.c_uint32)]),
    "bpf_prog_get_fd_by_id": (ct.c_int, [ct.c_uint32]),
    "bpf_obj_get_info_by_fd": (ct.c_int, [ct.c_int, ct.c_void_p, ct.POINTER(ct.c_uint32)]),
    "btf__load_from_kernel_by_id": (ct.c_void_p, [ct.c_uint32]),
    "btf__free": (None, [ct.c_void_p]),
    "btf__type_by_id": (ct.c_void_p, [ct.c_void_p, ct.c_uint32]),
    "btf__name_by_offset": (ct.c_char_p, [ct.c_void_p, ct.c_uint32]),
}
_BTF_KIND_DATASEC = 15
_PROG_TYPE_XDP, _BPF_XDP = 6, 37  # of enum bpf_prog_type, of enum bpf_attach_type
_PROG_TYPE_PERF_EVENT, _BPF_PERF_EVENT = 7, 41
_PRINT = ct.CFUNCTYPE(ct.c_int, ct.c_int, ct.c_char_p, ct.c_void_p)
_WORDS_KEPT = 200
_LONGEST = 4 << 20


class LibbpfError(Exception):
    """A call of libbpf that failed: what, the positive errno, and the last words that libbpf and the verifier said."""

    def __init__(self, what: str, number: int, words: str = "") -> None:
        super().__init__(f"{what}: {os.strerror(number) if number < 512 else f'error {number}'}")
        self.what = what
        self.errno = number
        self.words = words


class _Words(threading.local):
    """libbpf's messages, in the thread whose call they are about."""

    def __init__(self) -> None:
        self.kept: deque[str] = deque(maxlen=_WORDS_KEPT)


class Library:
    """The loaded libbpf; one a process. Its last 200 lines of messages are kept, for whoever explains a failure."""

    def __init__(self, name: str = "libbpf.so.1") -> None:
        """`LibbpfError` with ENOENT when the library is not here, EPROTO when it is not version 1."""
        try:
            library = ct.CDLL(name, use_errno=True)
        except OSError as problem:
            raise LibbpfError(f"{name} cannot be loaded", errno.ENOENT, str(problem)) from None
        for function, (result, arguments) in _FUNCTIONS.items():
            try:
                bound = getattr(library, function)
            except AttributeError:
                raise LibbpfError(f"{name} has no {function}", errno.EPROTO) from None
            bound.restype = result
            bound.argtypes = arguments
        self.call: Any = library
        if library.libbpf_major_version() != 1:
            raise LibbpfError(f"{name} is {self.version}, but version 1 is wanted", errno.EPROTO)
        self.debug = False
        self._words = _Words()
        self._vsnprintf: Any = ct.CDLL(None).vsnprintf
        self._vsnprintf.argtypes = [ct.c_void_p, ct.c_size_t, ct.c_char_p, ct.c_void_p]
        self._print = _PRINT(self._keep)  # kept alive here: libbpf holds the bare pointer
        library.libbpf_set_print(ct.cast(self._print, ct.c_void_p))
        library.libbpf_register_prog_handler(b"xdp/", _PROG_TYPE_XDP, _BPF_XDP, None)  # ebpf_exporter's xdp/DEVICE
        library.libbpf_register_prog_handler(b"perf_event/", _PROG_TYPE_PERF_EVENT, _BPF_PERF_EVENT, None)

    @property
    def version(self) -> str:
        return bytes(self.call.libbpf_version_string()).decode()

    @property
    def cpus(self) -> int:
        """How many values a per-CPU map has for each key."""
        return int(self.call.libbpf_num_possible_cpus())

    def _keep(self, level: int, form: bytes, arguments: int | None) -> int:
        if level > 1 and not self.debug:  # 0 warn, 1 info, 2 debug
            return 0
        # A verifier's log is long, and what matters stands at its end.
        buffer = ct.create_string_buffer(_LONGEST if b"LOG" in form else 4096)
        self._vsnprintf(buffer, len(buffer), form, arguments)
        if self.debug:
            log.debug("libbpf: %s", buffer.value.decode(errors="replace").rstrip("\n"))
        self._words.kept.extend(buffer.value.decode(errors="replace").rstrip("\n").split("\n"))
        return 0

    def words(self) -> str:
        """What libbpf said to this thread since its last call of this."""
        said = "\n".join(self._words.kept)
        self._words.kept.clear()
        return said

    def open(self, path: Path, btf: str = "") -> Object:
        """Open an object file; nothing goes into the kernel, no privilege is needed. `LibbpfError` if it is none."""
        return Object(self, path, btf)


class _OpenOptions(ct.Structure):
    """struct bpf_object_open_opts of libbpf 1.x, up to what is used."""

    _fields_ = (
        ("sz", ct.c_size_t),
        ("object_name", ct.c_char_p),
        ("relaxed_maps", ct.c_bool),
        ("pin_root_path", ct.c_char_p),
        ("unused", ct.c_uint32),
        ("kconfig", ct.c_char_p),
        ("btf_custom_path", ct.c_char_p),
    )


class _LinkOptions(ct.Structure):
    """struct bpf_link_create_opts of libbpf 1.x, up to what is used."""

    _fields_ = (("sz", ct.c_size_t), ("flags", ct.c_uint32), ("padding", ct.c_uint32))


@dataclass(frozen=True)
class Map:
    """A map of an object: kind is the number of its BPF_MAP_TYPE_, sizes are bytes; fd is -1 before the load."""

    name: str
    kind: int
    key_size: int
    value_size: int
    max_entries: int
    fd: int = -1


@dataclass
class Program:
    """A program of an object: its name, its ELF section, and once loaded its fd."""

    name: str
    section: str
    pointer: int
    fd: int = -1


class Object:
    """An opened BPF object. Open → set constants → load → attach → close."""

    def __init__(self, library: Library, path: Path, btf: str) -> None:
        self.library = library
        self.path = path
        self._btf = btf
        self._links: list[int] = []
        self.closing: list[Callable[[], None]] = []
        """What has to end before the maps go: called by `close`, last one first."""
        self._descriptors: list[int] = []
        library.words()
        options = _OpenOptions(sz=ct.sizeof(_OpenOptions), btf_custom_path=btf.encode() if btf else None)
        self._pointer: int | None = library.call.bpf_object__open_file(os.fsencode(path), ct.byref(options))
        if not self._pointer:
            raise LibbpfError(f"{path} is no BPF object that libbpf can read", ct.get_errno(), library.words())

    def _each(self, following: Any) -> Iterator[int]:
        item = following(self._pointer, None)
        while item:
            yield int(item)
            item = following(self._pointer, item)

    def maps(self) -> dict[str, Map]:
        """The maps by name, without the compiler's own (.rodata, .bss)."""
        call = self.library.call
        found = {}
        for pointer in self._each(call.bpf_object__next_map):
            name = call.bpf_map__name(pointer).decode()
            if "." not in name:
                sizes = (call.bpf_map__key_size(pointer), call.bpf_map__value_size(pointer))
                fd = call.bpf_map__fd(pointer)
                found[name] = Map(
                    name, call.bpf_map__type(pointer), *sizes, call.bpf_map__max_entries(pointer), max(fd, -1)
                )
        return found

    def programs(self) -> list[Program]:
        call = self.library.call
        return [
            Program(
                call.bpf_program__name(pointer).decode(),
                call.bpf_program__section_name(pointer).decode(),
                pointer,
                call.bpf_program__fd(pointer),
            )
            for pointer in self._each(call.bpf_object__next_program)
        ]

    def constants(self) -> dict[str, tuple[int, int]]:
        """The variables that can be set before the load: name → (offset in .rodata, size), in bytes."""
        call = self.library.call
        btf = call.bpf_object__btf(self._pointer)
        number = call.btf__find_by_name_kind(btf, b".rodata", _BTF_KIND_DATASEC) if btf else -1
        if number <= 0:
            return {}
        section = call.btf__type_by_id(btf, number)
        count = ct.cast(section, ct.POINTER(ct.c_uint32))[1] & 0xFFFF  # btf_type.info, its vlen
        entries = ct.cast(
            section + 12, ct.POINTER(ct.c_uint32 * 3 * count)
        ).contents  # behind btf_type: btf_var_secinfo[]
        found = {}
        for kind, offset, size in entries:
            name_offset = ct.cast(call.btf__type_by_id(btf, kind), ct.POINTER(ct.c_uint32))[0]
            found[call.btf__name_by_offset(btf, name_offset).decode()] = (offset, size)
        return found

    def set_constant(self, name: str, value: bytes) -> None:
        """Give a constant its value, before the load. `LibbpfError` if there is none of that name or size."""
        place = self.constants().get(name)
        if place is None:
            raise LibbpfError(f"{self.path} has no constant {name}", errno.ENOENT)
        offset, size = place
        if len(value) > size:
            raise LibbpfError(f"{name} in {self.path} has {size} bytes, not {len(value)}", errno.E2BIG)
        call = self.library.call
        for pointer in self._each(call.bpf_object__next_map):
            if call.bpf_map__name(pointer).endswith(b".rodata"):
                length = ct.c_size_t()
                start = call.bpf_map__initial_value(pointer, ct.byref(length))
                if start and offset + size <= length.value:
                    ct.memmove(start + offset, value.ljust(size, b"\0"), size)
                    return
        raise LibbpfError(f"{self.path} has no readable .rodata", errno.ENOENT)

    def again(self) -> Object:
        """The same file opened once more, with the maps of this object, which is loaded."""
        call = self.library.call
        twin = Object(self.library, self.path, self._btf)
        pairs = zip(self._each(call.bpf_object__next_map), twin._each(call.bpf_object__next_map), strict=True)
        for own, other in pairs:
            if result := call.bpf_map__reuse_fd(other, call.bpf_map__fd(own)):
                twin.close()
                raise LibbpfError(f"{self.path.name} cannot be opened with the same maps", -result)
        return twin

    def aim(self, program: Program, target: int, function: str) -> None:
        """Have a program loaded, for a function of the loaded program that the descriptor `target` stands for."""
        call = self.library.call
        call.bpf_program__set_autoload(program.pointer, True)
        if result := call.bpf_program__set_attach_target(program.pointer, target, function.encode()):
            raise LibbpfError(f"{program.name} is not for {function}", -result, self.library.words())

    def load(self) -> None:
        """Put programs and maps into the kernel. `LibbpfError` carries the verifier's last words."""
        self.library.words()
        result = self.library.call.bpf_object__load(self._pointer)
        if result:
            raise LibbpfError(f"{self.path.name} does not load", -result, self.library.words())

    def attach(self, program: Program) -> None:
        """Attach one program where its section says, until `close` or the end of the process, however it ends."""
        self.library.words()
        link = self.library.call.bpf_program__attach(program.pointer)
        if not link:
            raise LibbpfError(f"{program.name} does not attach", ct.get_errno(), self.library.words())
        self._links.append(link)

    def attach_perf_event(self, program: Program, event: int) -> None:
        """Attach a program to an open perf event, which belongs to the object from now on."""
        self.library.words()
        link = self.library.call.bpf_program__attach_perf_event(program.pointer, event)
        if not link:
            raise LibbpfError(f"{program.name} does not attach", ct.get_errno(), self.library.words())
        self._links.append(link)

    def attach_xdp(self, program: Program, index: int, flags: int) -> None:
        """Attach an XDP program to the device of that index, until `close` or the end of the process, however it ends."""
        options = _LinkOptions(sz=ct.sizeof(_LinkOptions), flags=flags)
        descriptor = self.library.call.bpf_link_create(program.fd, index, _BPF_XDP, ct.byref(options))
        if descriptor < 0:
            raise LibbpfError(f"{program.name} does not attach", -descriptor, self.library.words())
        self._descriptors.append(descriptor)

    def close(self) -> None:
        """Detach everything and let go of the object. Twice does no harm."""
        while self.closing:
            self.closing.pop()()
        while self._descriptors:
            os.close(self._descriptors.pop())
        while self._links:
            self.library.call.bpf_link__destroy(self._links.pop())
        if self._pointer:
            self.library.call.bpf_object__close(self._pointer)
            self._pointer = None
