"""What must hold for any bytes of a key: decoders answer or say that they cannot, rows cut exactly, and bounded memory."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from g5kdeploy.exporter import decoders as module
from g5kdeploy.exporter.cgroups import Cgroups
from g5kdeploy.exporter.config import Decoder, Label
from g5kdeploy.exporter.decoders import DecodeError, Decoders, Rows, SkipRow
from g5kdeploy.exporter.kallsyms import Kallsyms
from g5kdeploy.exporter.pci import PciNames

# Each chain as the configuration allows it, and how many bytes it takes.
CHAINS: dict[tuple[str, ...], tuple[int, ...]] = {
    ("uint",): (1, 2, 4, 8),
    ("hex",): (1, 7, 32),
    ("string",): (1, 16, 64),
    ("uint", "errno"): (1, 4, 8),
    ("uint", "syscall"): (4, 8),
    ("uint", "cgroup"): (8,),
    ("uint", "static_map"): (1, 4),
    ("string", "regexp"): (8, 16),
    ("ifname",): (4,),
    ("inet_ip",): (4, 16),
    ("majorminor",): (4,),
    ("ksym",): (8,),
    ("kstack",): (8, 24),
    ("dname",): (1, 16, 64),
    ("uint", "pci_vendor"): (2, 4, 8),
    ("uint", "pci_device"): (4, 8),
    ("uint", "pci_class"): (1, 4),
    ("uint", "pci_subclass"): (2, 4),
}
SETTINGS: dict[str, dict[str, object]] = {
    "static_map": {"static_map": {"1": "one"}},
    "regexp": {"regexps": (re.compile(rb"^[a-z]+(\d*)"), re.compile(rb"x"))},
}


def made(folder: Path) -> Decoders:
    (folder / "partitions").write_text("major minor  #blocks  name\n\n 8 17 10 sdb1\n")
    (folder / "kallsyms").write_text("ffffffff81000000 T _text\n")
    decoders = Decoders(Cgroups(folder / "cgroup"), folder)
    decoders.pci = PciNames((folder / "none",))
    decoders.kallsyms = Kallsyms(folder / "kallsyms")
    return decoders


def label(name: str, chain: tuple[str, ...], size: int, padding: int = 0) -> Label:
    steps = tuple(Decoder(one, **SETTINGS.get(one, {})) for one in chain)  # type: ignore[arg-type]
    return Label(name, size, padding, steps)


@given(st.sampled_from(sorted(CHAINS)), st.data())
def test_any_bytes_are_decoded_or_refused(tmp_path: Path, chain: tuple[str, ...], data: st.DataObject) -> None:
    size = data.draw(st.sampled_from(CHAINS[chain]))
    raw = data.draw(st.binary(min_size=size, max_size=size))
    step = made(tmp_path).chain(label("x", chain, size))
    try:
        first = step(raw)
    except (DecodeError, SkipRow):
        return
    assert isinstance(first, bytes)
    assert step(raw) == first


@given(st.integers(0, 2**64 - 1), st.sampled_from([1, 2, 4, 8]))
def test_numbers_are_decimal(tmp_path: Path, value: int, size: int) -> None:
    value %= 1 << 8 * size
    raw = value.to_bytes(size, sys.byteorder)
    assert int(made(tmp_path).chain(label("x", ("uint",), size))(raw)) == value


@given(st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(0, 5)), min_size=1, max_size=6), st.data())
def test_rows_cut_the_key_where_the_labels_say(
    tmp_path: Path, parts: list[tuple[int, int]], data: st.DataObject
) -> None:
    labels = tuple(label(f"l{i}", ("uint",), size, padding) for i, (size, padding) in enumerate(parts))
    values = [data.draw(st.integers(0, (1 << 8 * size) - 1)) for size, _ in parts]
    gaps = [data.draw(st.binary(min_size=padding, max_size=padding)) for _, padding in parts]
    key = b"".join(v.to_bytes(p[0], sys.byteorder) + g for v, p, g in zip(values, parts, gaps, strict=True))
    rows = Rows(made(tmp_path), labels)
    assert rows.decode(key) == rows.decode(key) == tuple(map(str, values))


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=20, max_size=60))
def test_what_rows_remember_is_bounded(tmp_path: Path, keys: list[bytes]) -> None:
    kept = module._MOST_ROWS
    try:
        module._MOST_ROWS = 10
        rows = Rows(made(tmp_path), (label("x", ("hex",), 8),))
        assert [rows.decode(key) for key in keys] == [(key.hex(),) for key in keys]
        assert len(rows._known) <= 10
    finally:
        module._MOST_ROWS = kept
