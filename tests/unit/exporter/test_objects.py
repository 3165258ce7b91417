from __future__ import annotations

import platform
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from g5kdeploy.exporter import xdp_watch
from g5kdeploy.exporter.config import read_config
from g5kdeploy.exporter.document import Mistakes
from g5kdeploy.exporter.libbpf import LibbpfError, Library
from g5kdeploy.exporter.loader import CannotLoad, cgroup_id
from g5kdeploy.exporter.plan import encode, make_plans
from g5kdeploy.exporter.xdp import XdpError, XdpSettings

REPOSITORY = Path(__file__).parents[3]
SOURCES = REPOSITORY / "bpf"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bpf")
    subprocess.run(["make", "--silent", "-C", str(SOURCES), f"BUILD={folder}"], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


def sections(file: Path) -> list[str]:
    """The names of an ELF file's sections."""
    raw = file.read_bytes()
    start, size, count, names = *struct.unpack_from("<Q", raw, 40), *struct.unpack_from("<HHH", raw, 58)
    headers = [struct.unpack_from("<IIQQQQ", raw, start + i * size) for i in range(count)]
    strings = headers[names][4]
    return [raw[strings + header[0] :].split(b"\0", 1)[0].decode() for header in headers]


def programs() -> list[str]:
    return sorted(file.name.removesuffix(".bpf.c") for file in SOURCES.glob("*.bpf.c"))


@pytest.mark.parametrize("name", programs())
def test_an_object_is_stripped_portable_and_has_its_yaml(built: Path, name: str) -> None:
    names = sections(built / f"{name}.bpf.o")
    assert {".BTF", ".maps", "license"} <= set(names)
    assert not [section for section in names if section.startswith(".debug")]
    assert (built / f"{name}.yaml").is_file()
    assert (built / f"{name}.bpf.o").stat().st_size < 64 * 1024


def test_every_program_is_free_of_mistakes(built: Path, library: Library) -> None:
    alternatives = {file.name.removesuffix(".load.yaml") for file in built.glob("*.load.yaml")}
    mistakes = Mistakes()
    for name in sorted(set(programs()) | alternatives):
        (plan,) = make_plans(built, [name], library, mistakes) or [None]
        assert plan is not None, mistakes.found
        assert plan.candidates
    assert mistakes.found == []


def test_the_same_sources_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("build"))
    subprocess.run(["make", "--silent", "-C", str(copy)], check=True, timeout=300)
    for name in programs():
        assert (copy / "build" / f"{name}.bpf.o").read_bytes() == (built / f"{name}.bpf.o").read_bytes()


def test_one_object_serves_all_machines(built: Path, tmp_path: Path) -> None:
    """Compiled for each of them, the objects are the same: none is kept apart. One that a machine has of its own is taken there."""
    folder = tmp_path / "build"
    words = ["make", "--silent", "-j2", "-C", str(SOURCES), "machines", f"BUILD={folder}"]
    subprocess.run(words, check=True, timeout=300)
    assert not [folder for folder in folder.iterdir() if folder.is_dir()]
    config = read_config(folder, "statx", Mistakes())
    assert config is not None and config.object == folder / "statx.bpf.o"
    own = folder / platform.machine() / "statx.bpf.o"
    own.parent.mkdir()
    shutil.copy(config.object, own)
    assert config.object == own


def test_a_program_that_watches_another_is_loaded_by_itself_nowhere(built: Path, library: Library) -> None:
    opened = library.open(built / "xdp_verdicts.bpf.o")
    try:
        (program,) = opened.programs()
        assert xdp_watch.watches(program)
        for device in ("lo", "absent0"):
            with pytest.raises(xdp_watch.NotThere, match=f"there is no XDP program on {device} to watch"):
                xdp_watch.attach(opened, program, XdpSettings(device))
        with pytest.raises(XdpError, match="needs a device"):
            xdp_watch.attach(opened, program, XdpSettings())
    finally:
        opened.close()


def test_both_ways_of_the_mock_have_the_same_metrics() -> None:
    one, other = (SOURCES / f"statx_mock_{way}.yaml" for way in ("override", "rewrite"))
    assert one.read_text() == other.read_text()


def test_histograms_have_the_bounds_that_the_programs_use() -> None:
    """Two files say how many buckets there are: they must not come apart."""
    header = (SOURCES / "include" / "maps.bpf.h").read_text()
    low, high = (int(re.search(rf"#define LATENCY_{end} (\d+)", header)[1]) for end in ("MIN", "MAX"))  # type: ignore[index]
    for file in SOURCES.glob("statx*.yaml"):
        text = file.read_text()
        assert re.findall(r"bucket_min: (\d+)", text) in ([], [str(low)])
        assert re.findall(r"bucket_max: (\d+)", text) in ([], [str(high)])


COUNTER = (
    "metrics: {{counters: [{{name: {name}, help: H, labels: [{{name: a, size: {size}, decoders: [{{name: hex}}]}}]}}]}}"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (COUNTER.format(name="statx_calls_total", size=4), "its labels describe 4 bytes, but the map's key is 8"),
        (COUNTER.format(name="absent", size=8), "has no map absent; maps there: statx_calls_total"),
        (COUNTER.format(name="statx_started", size=4), "a map of type 29 cannot be read"),
        ("metrics: {counters: [{name: statx_calls_total, help: H}]}", "without labels the map's key must be 4 bytes"),
        (COUNTER.format(name="statx_calls_total", size=8) + "\nkaddrs: [jiffies]", "kaddr_jiffies"),
    ],
)
def test_what_the_object_does_not_have_is_found_before_loading(
    built: Path, library: Library, tmp_path: Path, text: str, words: str
) -> None:
    shutil.copy(built / "statx.bpf.o", tmp_path)
    (tmp_path / "statx.yaml").write_text(text)
    mistakes = Mistakes()
    assert make_plans(tmp_path, ["statx"], library, mistakes) == []
    assert words in "\n".join(mistakes.found)
    assert all(entry.startswith(f"{tmp_path / 'statx.yaml'}:") for entry in mistakes.found)


def test_a_sum_that_the_array_has_no_room_for(built: Path, library: Library, tmp_path: Path) -> None:
    shutil.copy(built / "statx_mock_rewrite.bpf.o", tmp_path / "m.bpf.o")
    text = (built / "statx_mock_rewrite.yaml").read_text().replace("bucket_max: 40", "bucket_max: 41")
    (tmp_path / "m.yaml").write_text(text)
    mistakes = Mistakes()
    make_plans(tmp_path, ["m"], library, mistakes)
    assert "the map has 42 entries, but the sum is kept at 42" in "\n".join(mistakes.found)


@pytest.mark.parametrize(
    ("settings", "line", "words"),
    [
        ("values:\n  absent: 1\n", 2, "has no constant absent; constants there: filter_cgroup"),
        ("values:\n  mock_path: " + "x" * 128 + "\n", 2, "does not fit into 127 bytes"),
        ("values:\n  filter_tgid: 0x100000000\n", 2, "does not fit into 4 bytes"),
    ],
)
def test_constants_that_cannot_be_set(
    built: Path, library: Library, tmp_path: Path, settings: str, line: int, words: str
) -> None:
    for end in ("bpf.o", "yaml"):
        shutil.copy(built / f"statx_mock_rewrite.{end}", tmp_path / f"m.{end}")
    (tmp_path / "m.load.yaml").write_text(settings)
    mistakes = Mistakes()
    make_plans(tmp_path, ["m"], library, mistakes)
    assert [entry for entry in mistakes.found if f"m.load.yaml:{line}:" in entry and words in entry], mistakes.found


@pytest.mark.parametrize("raw", [b"", b"\x7fELF", b"no object", bytes(4096)])
def test_what_is_no_object_is_said_to_be_none(library: Library, tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x.bpf.o").write_bytes(raw)
    (tmp_path / "x.yaml").write_text(COUNTER.format(name="x", size=8))
    mistakes = Mistakes()
    make_plans(tmp_path, ["x"], library, mistakes)
    assert len(mistakes.found) == 1 and "x.yaml:1: x.bpf.o: " in mistakes.found[0]


def test_every_cut_of_an_object_is_refused_or_read(built: Path, library: Library, tmp_path: Path) -> None:
    """An object that was copied by half: an error, and the process lives."""
    raw = (built / "statx.bpf.o").read_bytes()
    for size in range(0, len(raw), 997):
        (tmp_path / "cut.bpf.o").write_bytes(raw[:size])
        with pytest.raises(LibbpfError):
            library.open(tmp_path / "cut.bpf.o")


def test_a_metric_of_two_programs_is_a_mistake(built: Path, library: Library) -> None:
    mistakes = Mistakes()
    make_plans(built, ["statx_mock_rewrite", "statx_mock_override"], library, mistakes)
    assert any("is also one of statx_mock_rewrite" in entry for entry in mistakes.found)


@pytest.mark.parametrize("name", ["", "../statx", ".hidden"])
def test_names_that_are_no_names(built: Path, library: Library, name: str) -> None:
    mistakes = Mistakes()
    assert make_plans(built, [name], library, mistakes) == []
    assert "cannot be the name of a program" in mistakes.found[0]


def test_constants_as_bytes() -> None:
    assert encode("ab", 4) == b"ab\0\0"
    assert encode(-1, 4) == b"\xff" * 4
    assert int.from_bytes(encode(7, 8), "little") in {7, 7 << 56}
    with pytest.raises(ValueError, match="does not fit"):
        encode("abcd", 4)


def test_the_id_and_level_of_a_cgroup(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    assert cgroup_id(str(folder), tmp_path) == (folder.stat().st_ino, 2)
    assert cgroup_id(str(tmp_path), tmp_path) == (tmp_path.stat().st_ino, 0)
    with pytest.raises(CannotLoad, match="there is no cgroup"):
        cgroup_id(str(tmp_path / "absent"), tmp_path)
    with pytest.raises(CannotLoad, match="no cgroup of version 2"):
        cgroup_id("/proc", tmp_path)


def test_every_cut_of_a_configuration_is_read_or_refused_with_its_line(
    built: Path, library: Library, tmp_path: Path
) -> None:
    """A file that was copied by half: sentences with their place, never an exception, and nothing that half stands."""
    shutil.copy(built / "statx.bpf.o", tmp_path)
    text = (built / "statx.yaml").read_text()
    refused = 0
    for size in range(0, len(text), 11):
        (tmp_path / "statx.yaml").write_text(text[:size])
        mistakes = Mistakes()
        plans = make_plans(tmp_path, ["statx"], library, mistakes)
        assert bool(plans) != bool(mistakes)
        assert all(re.match(rf"{re.escape(str(tmp_path))}/statx\.yaml:\d+: ", entry) for entry in mistakes.found)
        refused += not plans
    assert refused > 30
