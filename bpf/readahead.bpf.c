/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Read-ahead, and how much of it was for nothing: pages that were brought into the cache before anybody asked for them, when they
 * were first used, and those that left the cache unused.
 *
 * Used is what the kernel marks as accessed: by read(2) at once, through a mapping not before it is unmapped. A folio counts with
 * all of its pages.
 */
#include "tracing.bpf.h"

/* Folios that are in the cache and not used yet: 512 MB of single pages. */
#define WAITING 131072

struct wrapped_flags {
    unsigned long f;
} core;

/* A folio of one page has no length of its own. Where the length stands has changed, and so has what the flags are. */
struct folio {
    unsigned long flags;
    unsigned int _folio_nr_pages;
} core;

struct folio___wrapped {
    struct wrapped_flags flags;
    unsigned int _nr_pages;
} core;

enum pageflags { PG_head };

struct waiting {
    u64 since;
    u64 pages;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, WAITING);
    __type(key, u64);
    __type(value, struct waiting);
} readahead_waiting SEC(".maps");

/* How deep this task is in functions that read ahead. */
TASK_STORAGE(readahead_depth, u64);

enum { READ, USED, UNUSED, KINDS };
enum { LOST_TASK, LOST_PAGE, LOST_KINDS };

PERCPU_ARRAY(readahead_pages_total, KINDS);
PERCPU_ARRAY(readahead_use_seconds, LATENCY_SLOTS);
PERCPU_ARRAY(readahead_lost_total, LOST_KINDS);

static __always_inline int enter(void)
{
    u64 *depth;

    if (!counted_task())
        return 0;
    depth = task_value(&readahead_depth, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (depth)
        ++*depth;
    else
        array_add(&readahead_lost_total, LOST_TASK, 1);
    return 0;
}

static __always_inline int leave(void)
{
    u64 *depth = task_value(&readahead_depth, 0);

    if (depth && *depth)
        --*depth;
    return 0;
}

/* What other files of the kernel call; one of them may call another. */
#define READS_AHEAD(function)                                  \
    SEC("fentry/" #function) int enter_##function(u64 *ctx)    \
    {                                                          \
        return enter();                                        \
    }                                                          \
    SEC("fexit/" #function) int leave_##function(u64 *ctx)     \
    {                                                          \
        return leave();                                        \
    }

READS_AHEAD(page_cache_sync_ra)
READS_AHEAD(page_cache_async_ra)
READS_AHEAD(page_cache_ra_order)
READS_AHEAD(force_page_cache_ra)

static __always_inline int is_large(unsigned long flags)
{
    return flags >> bpf_core_enum_value(enum pageflags, PG_head) & 1;
}

static __always_inline u64 pages_of(const struct folio *folio)
{
    const struct folio___wrapped *wrapped = (const void *)folio;

    if (bpf_core_field_exists(wrapped->flags.f))
        return is_large(BPF_CORE_READ(wrapped, flags.f)) ? BPF_CORE_READ(wrapped, _nr_pages) : 1;
    return is_large(BPF_CORE_READ(folio, flags)) ? BPF_CORE_READ(folio, _folio_nr_pages) : 1;
}

SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(readahead_added, struct folio *folio)
{
    u64 *depth = task_value(&readahead_depth, 0), key = (u64)folio;
    struct waiting waiting = {};

    if (!depth || !*depth)
        return 0;
    waiting.since = bpf_ktime_get_ns();
    waiting.pages = pages_of(folio);
    array_add(&readahead_pages_total, READ, waiting.pages);
    if (bpf_map_update_elem(&readahead_waiting, &key, &waiting, BPF_ANY))
        array_add(&readahead_lost_total, LOST_PAGE, waiting.pages);
    return 0;
}

SEC("fentry/folio_mark_accessed")
int BPF_PROG(readahead_used, struct folio *folio)
{
    u64 key = (u64)folio, took;
    struct waiting *waiting = bpf_map_lookup_elem(&readahead_waiting, &key);

    if (!waiting)
        return 0;
    took = bpf_ktime_get_ns() - waiting->since;
    array_add(&readahead_pages_total, USED, waiting->pages);
    array_add(&readahead_use_seconds, latency_bucket(took), waiting->pages);
    array_add(&readahead_use_seconds, LATENCY_SUM, took * waiting->pages);
    bpf_map_delete_elem(&readahead_waiting, &key);
    return 0;
}

SEC("tp_btf/mm_filemap_delete_from_page_cache")
int BPF_PROG(readahead_removed, struct folio *folio)
{
    u64 key = (u64)folio;
    struct waiting *waiting = bpf_map_lookup_elem(&readahead_waiting, &key);

    if (!waiting)
        return 0;
    array_add(&readahead_pages_total, UNUSED, waiting->pages);
    bpf_map_delete_elem(&readahead_waiting, &key);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
