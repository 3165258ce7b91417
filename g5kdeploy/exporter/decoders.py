"""From the bytes of a map's key to label values: ebpf_exporter's 18 decoders, chained as the configuration says."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .cgroups import Cgroups
from .config import Decoder, Label
from .kallsyms import Kallsyms
from .pci import PciNames
from .syscalls import table

_ERRNO = dict(errno.errorcode) | {35: "EDEADLK", 95: "ENOTSUP"}  # where there are two names: ebpf_exporter's
_MOST_ROWS = 100_000
_FEW_ROWS = 1000


class SkipRow(Exception):
    """No regexp of a label matches: the whole row is left out."""


class DecodeError(Exception):
    """Bytes that a decoder cannot make anything of."""


Step = Callable[[bytes], bytes]
T = TypeVar("T")


class Decoders:
    """All decoders and what they look things up in; each table is read when it is first needed."""

    def __init__(self, cgroups: Cgroups, proc: Path = Path("/proc")) -> None:
        self.cgroups = cgroups
        self.kallsyms = Kallsyms(proc / "kallsyms")
        self.pci = PciNames()
        self.partitions = proc / "partitions"
        self.most_left_out = _MOST_ROWS
        """How many keys of a map are remembered that a regexp leaves out."""
        self.settled = True
        """False once a decoder gave an answer that may be another one the next time: such a row is not kept."""
        self._syscalls: dict[int, str] | None = None

    def chain(self, label: Label) -> Step:
        """One function for all decoders of a label."""
        steps = [self._step(decoder) for decoder in label.decoders]
        if len(steps) == 1:
            return steps[0]

        def run(raw: bytes) -> bytes:
            for step in steps:
                raw = step(raw)
            return raw

        return run

    def _step(self, decoder: Decoder) -> Step:
        if decoder.name == "static_map":
            return _static_map(decoder)
        if decoder.name == "regexp":
            return _regexp(decoder)
        step: Step = getattr(self, f"_{decoder.name}")
        return step

    def _uint(self, raw: bytes) -> bytes:
        return b"%d" % int.from_bytes(raw, sys.byteorder)

    def _hex(self, raw: bytes) -> bytes:
        return raw.hex().encode()

    def _string(self, raw: bytes) -> bytes:
        return raw.split(b"\0", 1)[0]

    def _errno(self, raw: bytes) -> bytes:
        number = _number(raw)
        return _ERRNO.get(number, f"unknown:{number}").encode()

    def _syscall(self, raw: bytes) -> bytes:
        if self._syscalls is None:
            self._syscalls = table()
        number = _number(raw)
        return self._syscalls.get(number, f"unknown_syscall:{number}").encode()

    def _cgroup(self, raw: bytes) -> bytes:
        number = _number(raw)
        path = self.cgroups.path(number)
        if path is None:
            self.settled = False
            return b"unknown_cgroup_id:%d" % number
        return os.fsencode(path)

    def _ifname(self, raw: bytes) -> bytes:
        self.settled = False  # interfaces are renamed, and their numbers used again
        index = int.from_bytes(raw[:4], sys.byteorder)
        try:
            return socket.if_indextoname(index).encode()
        except (OSError, OverflowError):
            return b"unknown:%d" % index

    def _inet_ip(self, raw: bytes) -> bytes:
        try:
            address = ipaddress.ip_address(raw)
        except ValueError:
            return b"?" + raw.hex().encode()
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return str(address).encode()

    def _majorminor(self, raw: bytes) -> bytes:
        device = int.from_bytes(raw[:4], sys.byteorder)
        major, minor = (device >> 8) & 0xFFF, (device & 0xFF) | ((device >> 12) & 0xFFF00)
        for line in self.partitions.read_text().splitlines():
            fields = line.split()
            if len(fields) == 4 and fields[:2] == [str(major), str(minor)]:
                return fields[3].encode()
        self.settled = False
        return b"unknown:%d:%d" % (major, minor)

    def _ksym(self, raw: bytes) -> bytes:
        address = int.from_bytes(raw, sys.byteorder)
        name = self.kallsyms.exact(address)
        return name.encode() if name else b"unknown_addr:0x%x" % address

    def _kstack(self, raw: bytes) -> bytes:
        names = []
        for start in range(0, len(raw), 8):
            address = int.from_bytes(raw[start : start + 8], sys.byteorder)
            if not address:
                break
            names.append(self.kallsyms.within(address) or "??")
        return "\n".join(names).encode()

    def _dname(self, raw: bytes) -> bytes:
        if not raw:
            return b"."
        out = bytearray(raw)
        at = 0
        while at < len(raw):
            length = raw[at]
            out[at] = ord(".")
            at += 1
            if at + length > len(raw):
                return raw
            at += length
        return bytes(out[1:])

    def _pci_vendor(self, raw: bytes) -> bytes:
        return self.pci.vendor(_number(raw)).encode()

    def _pci_device(self, raw: bytes) -> bytes:
        return self.pci.device(_number(raw)).encode()

    def _pci_class(self, raw: bytes) -> bytes:
        return self.pci.class_(_number(raw)).encode()

    def _pci_subclass(self, raw: bytes) -> bytes:
        return self.pci.subclass(_number(raw)).encode()


def _number(raw: bytes) -> int:
    try:
        return int(raw)
    except ValueError:
        raise DecodeError(f"{raw!r} is no number") from None


def _static_map(decoder: Decoder) -> Step:
    known = {key.encode(): value.encode() for key, value in decoder.static_map.items()}

    def step(raw: bytes) -> bytes:
        if (value := known.get(raw)) is not None:
            return value
        return raw if decoder.allow_unknown else b"unknown:" + raw

    return step


def _regexp(decoder: Decoder) -> Step:
    def step(raw: bytes) -> bytes:
        for pattern in decoder.regexps:
            if match := pattern.search(raw):
                return match[pattern.groups] or b""
        raise SkipRow

    return step


class Rows:
    """Decodes the keys of one map, and remembers what it decoded: of keys that come again, up to a bound, oldest out first."""

    def __init__(self, decoders: Decoders, labels: tuple[Label, ...]) -> None:
        self._decoders = decoders
        self._known: dict[bytes, tuple[str, ...]] = {}
        self._left_out: dict[bytes, None] = {}
        self._parts: list[tuple[int, int, Step]] = []
        at = 0
        for label in labels:
            self._parts.append((at, at + label.size, decoders.chain(label)))
            at += label.size + label.padding

    def decode(self, key: bytes) -> tuple[str, ...] | None:
        """The label values of a key; None for a row to leave out. `DecodeError` for bytes that are wrong."""
        try:
            return self._known[key]
        except KeyError:
            if key in self._left_out:
                return None
        self._decoders.settled = True
        try:
            values = tuple(step(key[start:end]).decode(errors="replace") for start, end, step in self._parts)
        except SkipRow:
            if self._decoders.settled:
                _remember(self._left_out, key, None, self._decoders.most_left_out)
            return None
        if self._decoders.settled:
            _remember(self._known, key, values, _MOST_ROWS)
        return values

    def trim(self, entries: int) -> None:
        """Forget everything where much more is remembered than a map of so many entries still has."""
        if len(self._known) + len(self._left_out) > 2 * entries + _FEW_ROWS:
            self._known.clear()
            self._left_out.clear()


def _remember(where: dict[bytes, T], key: bytes, value: T, most: int) -> None:
    if len(where) >= most:
        if not where:
            return
        del where[next(iter(where))]
    where[key] = value
