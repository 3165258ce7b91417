"""The bucket that our programs choose for a value is the one whose bound the exporter writes: run by the kernel itself."""

from __future__ import annotations

import ctypes as ct
import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from g5kdeploy.exporter.libbpf import LibbpfError, Library

REPOSITORY = Path(__file__).parents[2]
# An XDP program that is only ever run by the kernel's test run: value in, bucket out, in the packet.
SOURCE = """
#include "maps.bpf.h"

SEC("xdp")
int bucket(struct xdp_md *ctx)
{
    u64 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

    if (data + 3 > end)
        return XDP_ABORTED;
    data[1] = exp2_bucket(data[0], LATENCY_MIN, LATENCY_MAX);
    data[2] = log2_u64(data[0]);
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


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], tuple[int, int]]]:
    """Value → (bucket, floor of the logarithm), as the kernel computes them."""
    folder = tmp_path_factory.mktemp("buckets")
    shutil.copytree(REPOSITORY / "bpf" / "include", folder / "include")
    shutil.copy(REPOSITORY / "bpf" / "Makefile", folder)
    (folder / "bucket.bpf.c").write_text(SOURCE)
    subprocess.run(["make", "--silent", "-C", str(folder)], check=True, timeout=300)
    library = Library()
    opened = library.open(folder / "build" / "bucket.bpf.o")
    run = library.call.bpf_prog_test_run_opts
    run.argtypes = [ct.c_int, ct.c_void_p]
    try:
        try:
            opened.load()
        except LibbpfError as problem:
            pytest.skip(f"this kernel does not take the program: {problem}")
        (program,) = opened.programs()

        def ask(value: int) -> tuple[int, int]:
            before = ct.create_string_buffer(struct.pack("=QQQ", value, 0, 0).ljust(64, b"\0"), 64)
            after = ct.create_string_buffer(64)
            options = _TestRun(sz=ct.sizeof(_TestRun), size_in=64, size_out=64, repeat=1)
            options.data_in, options.data_out = ct.addressof(before), ct.addressof(after)
            assert run(program.fd, ct.byref(options)) == 0 and options.retval == 2
            bucket, logarithm = struct.unpack_from("=QQ", after.raw, 8)
            return bucket, logarithm

        yield ask
    finally:
        opened.close()


def test_a_bucket_holds_what_is_not_above_its_bound(buckets: Callable[[int], tuple[int, int]]) -> None:
    chance = random.Random(5)
    edges = {2**i + d for i in range(64) for d in (-1, 0, 1)} | {0, 2**64 - 1}
    for value in sorted(edges | {chance.getrandbits(chance.randint(1, 64)) for _ in range(500)}):
        bucket, logarithm = buckets(value)
        exact = (value - 1).bit_length() if value else 0
        assert bucket == min(max(exact, 6), 40), value
        assert logarithm == max(value.bit_length() - 1, 0), value
