"""A function of a user's program, counted at its entry and at its return, on whatever kernel this is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from g5kdeploy.exporter.cgroups import Cgroups
from g5kdeploy.exporter.decoders import Decoders
from g5kdeploy.exporter.document import Mistakes
from g5kdeploy.exporter.exporter import Exporter
from g5kdeploy.exporter.libbpf import Library
from g5kdeploy.exporter.loader import Loader
from g5kdeploy.exporter.plan import make_plans

REPOSITORY = Path(__file__).parents[2]
CALLS = 1000
WATCHED = """
__attribute__((noinline)) int work(int n) { __asm__ volatile("" ::: "memory"); return n; }
int main(void) { for (int i = 0; i < CALLS; i++) work(i); return 0; }
"""
PROGRAM = """
#include "maps.bpf.h"

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, u32);
    __type(value, u64);
} work_total SEC(".maps");

SEC("uprobe/PATH:work")
int work_entry(void *ctx)
{
    array_add(&work_total, 0, 1);
    return 0;
}

SEC("uretprobe/PATH:work")
int work_return(void *ctx)
{
    array_add(&work_total, 1, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""
YAML = """
metrics:
  counters:
    - name: work_total
      help: Calls of work
      labels:
        - {name: end, size: 4, decoders: [{name: uint}, {name: static_map, static_map: {0: entry, 1: return}}]}
"""


def test_every_call_of_a_function_is_counted_at_both_ends(tmp_path: Path) -> None:
    binary = tmp_path / "watched"
    (tmp_path / "watched.c").write_text(WATCHED.replace("CALLS", str(CALLS)))
    subprocess.run(["gcc", "-O1", "-o", str(binary), str(tmp_path / "watched.c")], check=True, timeout=120)
    shutil.copytree(REPOSITORY / "bpf" / "include", tmp_path / "include")
    shutil.copy(REPOSITORY / "bpf" / "Makefile", tmp_path)
    (tmp_path / "work.bpf.c").write_text(PROGRAM.replace("PATH", str(binary)))
    (tmp_path / "work.yaml").write_text(YAML)
    subprocess.run(["make", "--silent", "-C", str(tmp_path)], check=True, timeout=120)
    library, mistakes = Library(), Mistakes()
    (plan,) = make_plans(tmp_path / "build", ["work"], library, mistakes)
    assert not mistakes.found
    decoders = Decoders(Cgroups())
    (loaded,) = Loader(library, decoders).load([plan])
    exporter = Exporter(library, decoders, [loaded])
    try:
        if not loaded.whole:
            pytest.skip(f"this kernel does not take the program: {loaded.reasons}")
        subprocess.run([str(binary)], check=True, timeout=60)
        text = exporter.scrape().decode()
        assert f'ebpf_exporter_work_total{{end="entry"}} {CALLS}\n' in text
        assert f'ebpf_exporter_work_total{{end="return"}} {CALLS}\n' in text
    finally:
        exporter.close()
    subprocess.run([str(binary)], check=True, timeout=60)  # nothing is left in it
