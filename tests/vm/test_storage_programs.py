"""The programs on filesystems and disks, on the distribution's kernels: what ten files cost, seen at every layer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stock_kernel import Watched, watched

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]
FILES = 10


def seen(stock_kernel: dict[str, Any], scenario: str) -> Watched:
    return watched(stock_kernel, "storage", scenario)


@pytest.mark.parametrize("name", ["ext4", "xfs", "fuse", "nfs"])
def test_a_filesystems_operations_are_timed(stock_kernel: dict[str, Any], name: str) -> None:
    run = seen(stock_kernel, name)
    # A directory listing is one call or more; a lookup may be part of the creation.
    for operation in ("read", "write", "sync", "rename", "unlink", "readdir", "lookup"):
        assert run.grown(f"{name}_latency_seconds_count", operation=operation) >= FILES, operation
        assert 0 < run.mean(f"{name}_latency_seconds", operation=operation) < 60, operation
    opened = [run.grown(f"{name}_latency_seconds_count", operation=operation) for operation in ("open", "create")]
    assert max(opened) >= FILES
    assert run.grown(f"{name}_lost_total") == 0


@pytest.mark.parametrize("name", ["ext4", "xfs", "fuse", "nfs"])
def test_errors_have_their_names(stock_kernel: dict[str, Any], name: str) -> None:
    assert seen(stock_kernel, name).grown(f"{name}_errors_total", operation="write", error="EFBIG") == 1


@pytest.mark.parametrize(("name", "count"), [("cifs", 30), ("ceph", 24)])
def test_a_filesystem_without_a_server_is_attached(stock_kernel: dict[str, Any], name: str, count: int) -> None:
    """All of its programs, to the functions of the module that is loaded; there is nothing that they could count."""
    after = watched(stock_kernel, "attached", name).notes["after"]
    prefix = f'ebpf_exporter_ebpf_program_info{{config="{name}"'
    numbers = [sample.split(',id="')[1].split('"')[0] for sample in after if sample.startswith(prefix)]
    assert len(numbers) == count
    assert all(after[f'ebpf_exporter_ebpf_program_attached{{id="{number}"}}'] == 1 for number in numbers)


def test_what_a_fuse_server_was_asked_for(stock_kernel: dict[str, Any]) -> None:
    run = seen(stock_kernel, "fuse")
    for request in ("lookup", "create", "write", "read", "fsync", "unlink"):
        assert run.grown("fuse_request_seconds_count", request=request) >= FILES, request
    assert 0 < run.mean("fuse_request_seconds", request="write") <= run.mean("fuse_latency_seconds", operation="write")


def test_sunrpc(stock_kernel: dict[str, Any]) -> None:
    run = seen(stock_kernel, "sunrpc")
    for procedure in ("WRITE", "REMOVE", "RENAME"):
        labels = {"program": "nfs", "procedure": procedure}
        assert run.grown("sunrpc_stage_seconds_count", stage="rtt", **labels) >= FILES, procedure
        backlog, rtt, execute = (
            run.grown("sunrpc_stage_seconds_sum", stage=stage, **labels) for stage in ("backlog", "rtt", "execute")
        )
        assert backlog >= 0
        assert 0 < rtt <= execute
    assert run.grown("sunrpc_retransmits_total", program="nfs") >= 1
    assert run.grown("sunrpc_transport_events_total", event="connect") >= 1
    assert run.grown("sunrpc_lost_total") == 0


def test_block(stock_kernel: dict[str, Any]) -> None:
    run = seen(stock_kernel, "block")
    written = {"device": "vda", "operation": "write"}
    assert run.grown("block_size_bytes_count", **written) >= 64
    assert run.grown("block_size_bytes_sum", **written) >= 64 * 4096
    for stage in ("queue", "device"):
        assert run.grown("block_latency_seconds_count", stage=stage, **written) >= 64
        assert 0 < run.mean("block_latency_seconds", stage=stage, **written) < 60
    assert run.grown("block_lost_total") == 0


def test_pagecache(stock_kernel: dict[str, Any]) -> None:
    run = seen(stock_kernel, "pagecache")
    for op in ("add_to_page_cache_lru", "account_page_dirtied", "mark_page_accessed", "delete_from_page_cache"):
        assert run.grown("page_cache_ops_total", op=op) >= 100, op
    assert run.grown("page_cache_ops_total", op="mark_buffer_dirty") > 0
    assert 0 < run.mean("writeback_seconds", reason="sync") < 600
    assert run.grown("page_cache_lost_total") == 0


def test_readahead(stock_kernel: dict[str, Any]) -> None:
    run = seen(stock_kernel, "readahead")
    for what, pages in (("read", 1024), ("used", 256), ("unused", 768)):
        assert run.grown("readahead_pages_total", what=what) >= pages, what
    assert run.grown("readahead_use_seconds_count") >= 256
    assert 0 < run.mean("readahead_use_seconds") < 600
    assert run.grown("readahead_lost_total") == 0
