"""Which system calls a program measures: names in X.load.yaml, numbers in the kernel."""

from __future__ import annotations

from pathlib import Path

from g5kdeploy.exporter.document import Mistakes
from g5kdeploy.exporter.load_settings import read_load_settings
from g5kdeploy.exporter.plan import encode
from g5kdeploy.exporter.syscalls import bitmap, names, table

BPF = Path(__file__).parents[3] / "bpf"


def read(folder: Path, text: str) -> tuple[tuple[str, ...], list[str]]:
    (folder / "x.load.yaml").write_text(text)
    mistakes = Mistakes()
    return read_load_settings(folder, "x", mistakes).calls, mistakes.found


def test_calls_are_known_by_name(tmp_path: Path) -> None:
    assert read(tmp_path, "calls: [openat, unlink]\n") == (("openat", "unlink"), [])
    _, mistakes = read(tmp_path, "calls:\n  - openat\n  - opnat\n")
    assert len(mistakes) == 1
    assert mistakes[0].endswith("x.load.yaml:2: there is no system call opnat")


def test_each_machine_has_its_own_numbers_and_passes_over_what_it_lacks() -> None:
    assert bitmap(["read", "unlink"], "x86_64") == 1 << 0 | 1 << 87
    assert bitmap(["read", "unlink"], "aarch64") == 1 << 63
    assert bitmap(["statx"], "x86_64") == 1 << 332


def test_the_numbers_fit_into_the_object() -> None:
    for machine in ("x86_64", "aarch64"):
        assert len(encode(bitmap(names(), machine), 512 // 8)) == 64
        assert max(table(machine)) < 512


def test_our_list_is_of_calls_that_exist() -> None:
    mistakes = Mistakes()
    assert len(read_load_settings(BPF, "syscalls", mistakes).calls) > 15
    assert not mistakes, mistakes.found
