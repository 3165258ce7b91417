from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from g5kdeploy.exporter.cgroups import Cgroups
from g5kdeploy.exporter.config import DECODERS, Decoder, Label
from g5kdeploy.exporter.decoders import DecodeError, Decoders, Rows
from g5kdeploy.exporter.exposition import Family, pairs
from g5kdeploy.exporter.kallsyms import Kallsyms
from g5kdeploy.exporter.pci import PciNames
from g5kdeploy.exporter.syscalls import table

ORDER = sys.byteorder
PCI = """\
# comment
0010  Allied Telesis
8086  Intel Corporation
\t1572  Ethernet Controller X710 for 10GbE SFP+
\t\t8086 0001  A subsystem
C 02  Network controller
\t00  Ethernet controller
\t\t01  An interface
"""


@pytest.fixture
def decoders(tmp_path: Path) -> Decoders:
    (tmp_path / "partitions").write_text(
        "major minor  #blocks  name\n\n 254        0   10 vda\n   8       17   10 sdb1\n"
    )
    (tmp_path / "kallsyms").write_text("ffffffff81000000 T _text\nffffffff81000100 t tcp_v4_rcv\t[net]\n0 a nothing\n")
    (tmp_path / "pci.ids").write_text(PCI)
    (tmp_path / "cgroup" / "system.slice").mkdir(parents=True)
    made = Decoders(Cgroups(tmp_path / "cgroup"), tmp_path)
    made.pci = PciNames((tmp_path / "none", tmp_path / "pci.ids"))
    return made


def chain(decoders: Decoders, raw: bytes, *names: str, **settings: object) -> bytes:
    steps = [Decoder(name) for name in names[:-1]] + [Decoder(names[-1], **settings)]  # type: ignore[arg-type]
    return decoders.chain(Label("x", len(raw), 0, tuple(steps)))(raw)


def u(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, ORDER)


@pytest.mark.parametrize(
    ("names", "raw", "text"),
    [
        (["uint"], u(200, 1), b"200"),
        (["uint"], u(65535, 2), b"65535"),
        (["uint"], u(2**64 - 1, 8), b"18446744073709551615"),
        (["hex"], b"\x00\xff\x10", b"00ff10"),
        (["string"], b"eth0\0garbage", b"eth0"),
        (["string"], b"full", b"full"),
        (["uint", "errno"], u(2), b"ENOENT"),
        (["uint", "errno"], u(11), b"EAGAIN"),
        (["uint", "errno"], u(95), b"ENOTSUP"),
        (["uint", "errno"], u(0), b"unknown:0"),
        (["uint", "errno"], u(4000), b"unknown:4000"),
        (["uint", "syscall"], u(99999), b"unknown_syscall:99999"),
        (["inet_ip"], bytes([10, 0, 0, 1]), b"10.0.0.1"),
        (["inet_ip"], bytes(15) + b"\x01", b"::1"),
        (["inet_ip"], bytes(10) + b"\xff\xff" + bytes([1, 2, 3, 4]), b"1.2.3.4"),
        (["majorminor"], u(254 << 8), b"vda"),
        (["majorminor"], u(8 << 8 | 17), b"sdb1"),
        (["majorminor"], u(9 << 8 | 1), b"unknown:9:1"),
        (["ksym"], u(0xFFFFFFFF81000100, 8), b"tcp_v4_rcv"),
        (["ksym"], u(0xFFFFFFFF81000101, 8), b"unknown_addr:0xffffffff81000101"),
        (["kstack"], u(0xFFFFFFFF81000104, 8) + u(0xFFFFFFFF81000004, 8) + u(0, 8), b"tcp_v4_rcv\n_text"),
        (["kstack"], u(1, 8), b"??"),
        (["dname"], b"", b"."),
        (["dname"], b"\x03com", b"com"),
        (["dname"], b"\x07example\x03com", b"example.com"),
        (["dname"], b"\x05com", b"\x05com"),
        (["uint", "pci_vendor"], u(0x8086), b"Intel Corporation"),
        (["uint", "pci_vendor"], u(0x10), b"Allied Telesis"),
        (["uint", "pci_vendor"], u(0x9999), b"unknown pci vendor: 0x9999"),
        (["uint", "pci_device"], u(0x80861572), b"Ethernet Controller X710 for 10GbE SFP+"),
        (["uint", "pci_class"], u(2, 1), b"Network controller"),
        (["uint", "pci_class"], u(0x77), b"unknown pci class: 0x77"),
        (["uint", "pci_subclass"], u(0x0200), b"Ethernet controller"),
        (["uint", "pci_subclass"], u(0x0201), b"unknown pci subclass: 0x01 (class 0x02)"),
        (["uint", "cgroup"], u(1 << 40, 8), b"unknown_cgroup_id:1099511627776"),
    ],
)
def test_each_decoder(decoders: Decoders, names: list[str], raw: bytes, text: bytes) -> None:
    assert chain(decoders, raw, *names) == text


def test_every_decoder_of_the_format_is_there(decoders: Decoders) -> None:
    for name in DECODERS:
        pattern = (re.compile(b"."),) if name == "regexp" else ()
        assert callable(decoders.chain(Label("x", 4, 0, (Decoder(name, regexps=pattern),))))
    assert len(DECODERS) == 18


def test_static_map(decoders: Decoders) -> None:
    known = {"1": "one"}
    assert chain(decoders, u(1), "uint", "static_map", static_map=known) == b"one"
    assert chain(decoders, u(2), "uint", "static_map", static_map=known) == b"unknown:2"
    assert chain(decoders, u(2), "uint", "static_map", static_map=known, allow_unknown=True) == b"2"


def test_regexp_takes_its_group_or_the_match_and_drops_the_rest(decoders: Decoders) -> None:
    label = Label(
        "x", 8, 0, (Decoder("string"), Decoder("regexp", regexps=(re.compile(b"^sd([a-z])"), re.compile(b"nvme.*"))))
    )
    rows = Rows(decoders, (label,))
    assert rows.decode(b"sda1\0\0\0\0") == ("a",)
    assert rows.decode(b"nvme0n1\0") == ("nvme0n1",)
    assert rows.decode(b"loop0\0\0\0") is None


def test_rows_cut_the_key_by_size_and_padding(decoders: Decoders) -> None:
    labels = (
        Label("a", 1, 3, (Decoder("uint"),)),
        Label("b", 4, 0, (Decoder("uint"), Decoder("errno"))),
        Label("c", 4, 4, (Decoder("string"),)),
    )
    key = b"\x07\xff\xff\xff" + u(1) + b"ab\xff\0" + b"\xff" * 4
    assert Rows(decoders, labels).decode(key) == ("7", "EPERM", "ab�")


def test_text_where_a_number_should_be_is_an_error(decoders: Decoders) -> None:
    with pytest.raises(DecodeError):
        chain(decoders, b"abc", "string", "errno")


def test_what_may_have_another_name_later_is_not_kept(decoders: Decoders, tmp_path: Path) -> None:
    rows = Rows(decoders, (Label("device", 4, 0, (Decoder("majorminor"),)),))
    key = u(9 << 8 | 1)
    assert rows.decode(key) == ("unknown:9:1",)
    (tmp_path / "partitions").write_text("9 1 10 md1\n")
    assert rows.decode(key) == ("md1",)
    (tmp_path / "partitions").write_text("")
    assert rows.decode(key) == ("md1",)


def test_a_cgroup_is_found_by_its_inode(decoders: Decoders, tmp_path: Path) -> None:
    folder = tmp_path / "cgroup" / "system.slice"
    assert chain(decoders, u(folder.stat().st_ino, 8), "uint", "cgroup") == os.fsencode(folder)


def test_names_of_system_calls() -> None:
    assert (table("x86_64")[0], table("x86_64")[332], table("aarch64")[291]) == ("read", "statx", "statx")
    for machine in ("x86_64", "aarch64", "ppc64le"):
        assert table(machine)[437] == "openat2" and table(machine)[463] == "setxattrat"
        assert "-" not in table(machine).values()


def test_symbols_that_may_not_be_seen_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_text("0000000000000000 T jiffies\n")
    symbols = Kallsyms(tmp_path / "kallsyms")
    assert symbols.address("jiffies") == 0 and symbols.within(0x1000) == ""
    assert Kallsyms(tmp_path / "absent").exact(1) == ""


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'"} 1\nevil_total 2\n\0', '"} 1\nevil_total 2\n'),
        (b"back\\slash\0......", "back\\slash"),
        (b"\xff\xfe\x00.......", "\ufffd\ufffd"),
        (b"\x1b[31mred\x07\0....", "\x1b[31mred\x07"),
        (b"\xe2\x80\xa8line\0....", "\u2028line"),
        (b"\0" * 16, ""),
        (b"x" * 16, "x" * 16),
    ],
)
def test_hostile_names_stay_within_their_label(decoders: Decoders, raw: bytes, text: str) -> None:
    """A process may call itself what it likes: whoever parses the exposition reads that name, and nothing else."""
    labels = Rows(decoders, (Label("comm", len(raw), 0, (Decoder("string"),)),)).decode(raw)
    assert labels == (text,)
    family = Family("x_total", "X", "counter", [f"{{{pairs(['comm'], labels)}}} 7"])
    for openmetrics, read in ((False, read_text), (True, read_openmetrics)):
        (found,) = read("".join(family.text(openmetrics)) + ("# EOF\n" if openmetrics else ""))
        assert [(sample.name, sample.labels, sample.value) for sample in found.samples] == [
            ("x_total", {"comm": text}, 7)
        ]
