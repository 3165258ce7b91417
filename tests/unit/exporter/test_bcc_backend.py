from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from g5kdeploy.exporter import bcc_attach, bcc_backend
from g5kdeploy.exporter.bcc_backend import BccError, BccObject
from g5kdeploy.exporter.config import Config
from g5kdeploy.exporter.libbpf import Program
from g5kdeploy.exporter.plan import source_of


def with_bcc(monkeypatch: pytest.MonkeyPatch, module: ModuleType | None) -> None:
    monkeypatch.setitem(sys.modules, "bcc", module)


def test_bcc_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_bcc(monkeypatch, None)
    with pytest.raises(BccError, match="python3-bpfcc"):
        BccObject(tmp_path / "x.bcc.c", {})


def test_the_other_bcc_is_told_from_the_right_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lattice = ModuleType("bcc")
    lattice.__file__ = "/site-packages/bcc/__init__.py"
    with_bcc(monkeypatch, lattice)
    with pytest.raises(BccError, match="another package called bcc"):
        BccObject(tmp_path / "x.bcc.c", {})


def compiler(fails: bool, seen: dict[str, object]) -> ModuleType:
    """BCC's interface, with a compiler that speaks and fails as the real one does: on descriptor 2, then a bare Exception."""

    class BPF:
        def __init__(self, src_file: bytes, cflags: list[str]) -> None:
            seen.update(src_file=src_file, cflags=cflags)
            if fails:
                os.write(2, b"/virtual/main.c:7:5: error: use of undeclared identifier 'x'\n1 error generated.\n")
                raise Exception("Failed to compile BPF module <text>")

    module = ModuleType("bcc")
    module.BPF = BPF  # type: ignore[attr-defined]
    return module


def test_a_source_that_does_not_compile_is_told_in_the_compilers_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with_bcc(monkeypatch, compiler(True, {}))
    monkeypatch.setattr(bcc_backend, "headers", lambda: tmp_path)
    with pytest.raises(BccError, match=r"x\.bcc\.c: /virtual/main\.c:7:5: error: use of undeclared"):
        BccObject(tmp_path / "x.bcc.c", {})
    assert capfd.readouterr() == ("", "")


def test_without_headers_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, object] = {}
    with_bcc(monkeypatch, compiler(False, seen))
    monkeypatch.setattr(bcc_backend, "headers", lambda: None)
    with pytest.raises(BccError, match="linux-headers-"):
        BccObject(tmp_path / "x.bcc.c", {})
    assert seen == {}


def test_where_headers_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path))
    assert bcc_backend.headers() == tmp_path


def test_values_become_macros() -> None:
    assert bcc_backend._literal("a", -3) == "-3"
    assert bcc_backend._literal("a", 'x"\\\n') == '"x\\042\\134\\012"'
    with pytest.raises(BccError, match="cannot be the name of a macro"):
        bcc_backend._literal("a b", 1)


def test_which_of_object_and_source_is_taken(tmp_path: Path) -> None:
    config = Config("x", tmp_path / "x.yaml", (), ())
    assert source_of(config, "auto") is None
    (tmp_path / "x.bcc.c").touch()
    assert source_of(config, "auto") == tmp_path / "x.bcc.c"
    (tmp_path / "x.bpf.o").touch()
    assert [source_of(config, b) for b in ("auto", "libbpf", "bcc")] == [None, None, tmp_path / "x.bcc.c"]


@pytest.mark.parametrize(
    ("section", "pattern"),
    [
        ("kprobe/nfs_*", True),
        ("tp/syscalls/sys_enter_?etp*", True),
        ("kprobe/nfs_read", False),
        ("kprobe.multi/nfs_*", False),
        ("xdp/eth*", False),
    ],
)
def test_sections_that_are_patterns(section: str, pattern: bool) -> None:
    assert bcc_attach.is_pattern(Program("p", section, 0)) is pattern


def test_patterns_as_expressions() -> None:
    found = re.compile(bcc_attach.expression("nfs_*.isra.?").decode())
    assert found.match("nfs_read.isra.0") and not found.match("nfs_readXisra.0") and not found.match("nfs_read.isra.01")
