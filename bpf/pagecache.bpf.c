/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * The page cache: what was found in it, what had to be brought in, what was made dirty; and how long write-back takes.
 *
 * The kernel has no event for a hit. As cachestat does: hits are pages marked as accessed less buffers made dirty (those are marked,
 * too); misses are pages added less pages made dirty (a write adds pages without reading any). docs/programs.md has the queries.
 */
#include "tracing.bpf.h"

enum { ADDED, ACCESSED, DIRTIED, BUFFER_DIRTIED, REMOVED, OPERATIONS };

/* A field is found by its type, too: an enum of this name. */
enum wb_reason { WB_REASON_BACKGROUND };

struct wb_writeback_work {
    enum wb_reason reason;
} core;

TASK_STORAGE(writeback_started, u64);
PERCPU_ARRAY(page_cache_ops_total, OPERATIONS);
PERCPU_HASH(writeback_seconds, struct timed_key, 16 * LATENCY_SLOTS);

enum { LOST_WRITEBACK, LOST_KINDS };

PERCPU_ARRAY(page_cache_lost_total, LOST_KINDS);

static __always_inline int operation(u32 which)
{
    array_add(&page_cache_ops_total, which, 1);
    return 0;
}

SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(page_cache_added)
{
    return operation(ADDED);
}

SEC("tp_btf/mm_filemap_delete_from_page_cache")
int BPF_PROG(page_cache_removed)
{
    return operation(REMOVED);
}

SEC("tp_btf/writeback_dirty_folio")
int BPF_PROG(page_cache_dirtied)
{
    return operation(DIRTIED);
}

SEC("fentry/folio_mark_accessed")
int BPF_PROG(page_cache_accessed)
{
    return operation(ACCESSED);
}

SEC("fentry/mark_buffer_dirty")
int BPF_PROG(page_cache_buffer_dirtied)
{
    return operation(BUFFER_DIRTIED);
}

/* One round of write-back: the same worker begins and ends it. */
SEC("tp_btf/writeback_start")
int BPF_PROG(writeback_begins)
{
    u64 *started = task_value(&writeback_started, BPF_LOCAL_STORAGE_GET_F_CREATE);

    if (started)
        *started = bpf_ktime_get_ns();
    else
        array_add(&page_cache_lost_total, LOST_WRITEBACK, 1);
    return 0;
}

SEC("tp_btf/writeback_written")
int BPF_PROG(writeback_ends, void *device, struct wb_writeback_work *work)
{
    u64 took = elapsed(task_value(&writeback_started, 0));

    if (took && !timed_add(&writeback_seconds, work->reason, took))
        array_add(&page_cache_lost_total, LOST_WRITEBACK, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
