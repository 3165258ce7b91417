"""Histograms of our programs, run by the kernel itself: buckets are those whose bounds the exporter writes; count and sum agree."""

from __future__ import annotations

import ctypes as ct
import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from g5kdeploy.exporter.libbpf import LibbpfError, Library, Object
from g5kdeploy.exporter.maps import Reader

REPOSITORY = Path(__file__).parents[2]
# XDP programs that are only ever run by the kernel's test run: numbers in, numbers out, in the packet.
SOURCE = """
#include "maps.bpf.h"

SEC("xdp")
int bucket(struct xdp_md *ctx)
{
    u64 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

    if (data + 3 > end)
        return XDP_ABORTED;
    data[1] = latency_bucket(data[0]);
    data[2] = log2_u64(data[0]);
    return XDP_PASS;
}

struct key {
    u32 what;
    u32 bucket;
};

PERCPU_HASH(scarce, struct key, 3);

SEC("xdp")
int observe(struct xdp_md *ctx)
{
    u64 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    struct key key = {};

    if (data + 3 > end)
        return XDP_ABORTED;
    key.what = data[0];
    data[2] = hash_observe(&scarce, &key, &key.bucket, latency_bucket(data[1]), LATENCY_SUM, data[1]);
    return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
"""


class _TestRun(ct.Structure):
    """struct bpf_test_run_opts of libbpf 1.x."""

    _fields_ = (
        ("sz", ct.c_size_t),
        *((name, ct.c_void_p) for name in ("data_in", "data_out")),
        *((name, ct.c_uint32) for name in ("size_in", "size_out")),
        *((name, ct.c_void_p) for name in ("ctx_in", "ctx_out")),
        *((name, ct.c_uint32) for name in ("ctx_size_in", "ctx_size_out", "retval")),
        ("repeat", ct.c_int),
        *((name, ct.c_uint32) for name in ("duration", "flags", "cpu", "batch_size")),
    )


Run = Callable[[str, int, int], tuple[int, int]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Object]:
    folder = tmp_path_factory.mktemp("buckets")
    shutil.copytree(REPOSITORY / "bpf" / "include", folder / "include")
    shutil.copy(REPOSITORY / "bpf" / "Makefile", folder)
    (folder / "bucket.bpf.c").write_text(SOURCE)
    subprocess.run(["make", "--silent", "-C", str(folder)], check=True, timeout=300)
    opened = Library().open(folder / "build" / "bucket.bpf.o")
    try:
        try:
            opened.load()
        except LibbpfError as problem:
            pytest.skip(f"this kernel does not take the programs: {problem}")
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="module")
def run(loaded: Object) -> Run:
    """A program of the source, and the first two numbers of its packet → the last two, once the kernel has run it."""
    call = loaded.library.call.bpf_prog_test_run_opts
    call.argtypes = [ct.c_int, ct.c_void_p]
    programs = {program.name: program.fd for program in loaded.programs()}

    def ask(name: str, first: int, second: int) -> tuple[int, int]:
        before = ct.create_string_buffer(struct.pack("=QQQ", first, second, 0).ljust(64, b"\0"), 64)
        after = ct.create_string_buffer(64)
        options = _TestRun(sz=ct.sizeof(_TestRun), size_in=64, size_out=64, repeat=1)
        options.data_in, options.data_out = ct.addressof(before), ct.addressof(after)
        assert call(programs[name], ct.byref(options)) == 0 and options.retval == 2
        second, third = struct.unpack_from("=QQ", after.raw, 8)
        return second, third

    return ask


def test_a_bucket_holds_what_is_not_above_its_bound(run: Run) -> None:
    chance = random.Random(5)
    edges = {2**i + d for i in range(64) for d in (-1, 0, 1)} | {0, 2**64 - 1}
    for value in sorted(edges | {chance.getrandbits(chance.randint(1, 64)) for _ in range(500)}):
        bucket, logarithm = run("bucket", value, 0)
        exact = (value - 1).bit_length() if value else 0
        assert bucket == min(max(exact, 6), 40), value
        assert logarithm == max(value.bit_length() - 1, 0), value


def test_what_a_full_map_does_not_take_is_neither_counted_nor_in_the_sum(loaded: Object, run: Run) -> None:
    assert run("observe", 1, 300) == (300, 1) and run("observe", 1, 260) == (260, 1)
    assert run("observe", 2, 300) == (300, 0)  # there is room for its bucket, but not for its sum
    reader = Reader(loaded.library, loaded.maps()["scarce"])
    held = {struct.unpack("=II", key): value for key, value in reader.read()}
    assert held == {(1, 9): 2, (1, 41): 560, (2, 9): 0}
