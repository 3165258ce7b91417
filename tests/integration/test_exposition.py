"""Our exposition of a fixed set of map contents is ebpf_exporter's, which is recorded beside the object: value by value."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from g5kdeploy.exporter.cgroups import Cgroups
from g5kdeploy.exporter.decoders import Decoders
from g5kdeploy.exporter.document import Mistakes
from g5kdeploy.exporter.exporter import Exporter
from g5kdeploy.exporter.libbpf import Library
from g5kdeploy.exporter.loader import Loader
from g5kdeploy.exporter.pci import PciNames
from g5kdeploy.exporter.plan import make_plans

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "tests" / "exposition"
FILL = 20261130  # the number of a system call that no kernel has, for which fixed.bpf.c waits
Key = tuple[str, ...]


def samples(text: str) -> dict[Key, float]:
    """(type, help, name, label, value …) → value. Bounds are compared as numbers: they may be written 1 or 1.0."""
    found: dict[Key, float] = {}
    read = read_openmetrics if text.endswith("# EOF\n") else read_text
    for family in read(text):
        for one in family.samples:
            if one.name.startswith("ebpf_exporter_fixed_"):
                labels = {name: str(float(v)) if name == "le" else v for name, v in one.labels.items()}
                pairs = [word for pair in sorted(labels.items()) for word in pair]
                found[family.type, family.documentation, one.name, *pairs] = one.value
    return found


def of_cpu(key: Key, numbers: range) -> bool:
    """Whether the sample is of one of these CPUs, or of none."""
    return "cpu" not in key or int(key[key.index("cpu") + 1]) in numbers


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """The object loaded, its maps filled by CPU 0."""
    if platform.machine() != "x86_64" or 0 not in os.sched_getaffinity(0):
        pytest.skip("recorded on CPU 0 of an x86_64: system calls have other numbers elsewhere")
    folder = tmp_path_factory.mktemp("exposition")
    shutil.copytree(REPOSITORY / "bpf" / "include", folder / "include")
    for file in (REPOSITORY / "bpf" / "Makefile", FOLDER / "fixed.bpf.c", FOLDER / "fixed.yaml"):
        shutil.copy(file, folder)
    subprocess.run(["make", "--silent", "-C", str(folder)], check=True, timeout=300)
    library, decoders, mistakes = Library(), Decoders(Cgroups()), Mistakes()
    decoders.pci = PciNames((FOLDER / "pci.ids",))
    (plan,) = make_plans(folder / "build", ["fixed"], library, mistakes)
    assert not mistakes, mistakes.found
    (loaded,) = Loader(library, decoders).load([plan])
    exporter = Exporter(library, decoders, [loaded])
    try:
        if not loaded.whole:
            pytest.skip(f"this kernel does not take the program: {loaded.reasons}")
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {0})
        ctypes.CDLL(None).syscall(FILL)
        os.sched_setaffinity(0, allowed)
        yield exporter
    finally:
        exporter.close()


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_fixed_set_of_maps_is_served_as_by_ebpf_exporter(filled: Exporter, openmetrics: bool) -> None:
    recorded = samples((FOLDER / "recorded.txt").read_text())
    ours = samples(filled.scrape(openmetrics).decode())
    assert len(recorded) > 80
    both = range(min(filled.readers[0].reader.library.cpus, 2))
    assert {key: value for key, value in ours.items() if of_cpu(key, both)} == {
        key: value for key, value in recorded.items() if of_cpu(key, both)
    }
    assert not any(value for key, value in ours.items() if not of_cpu(key, both))


def test_every_decoder_and_every_kind_of_histogram_is_recorded(filled: Exporter) -> None:
    """All 18 decoders are in the fixed set; only what another machine would answer otherwise is asked in vain there."""
    from g5kdeploy.exporter.config import DECODERS

    config = filled.loaded[0].config
    used = {decoder.name for metric in config.metrics for label in metric.labels for decoder in label.decoders}
    assert used == set(DECODERS)
    assert {histogram.kind for histogram in config.histograms} == {"exp2", "exp2zero", "linear", "fixed"}
