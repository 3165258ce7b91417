/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Memory that runs out: tasks that must reclaim pages before they get one, compaction, and processes that are killed for it.
 *
 * Direct reclaim is time taken from whoever asked for memory: `global` when the node has none left, `memcg` when a cgroup is at its limit.
 */
#include "tracing.bpf.h"

#define CGROUPS 512

enum { GLOBAL, MEMCG, COMPACTION, KINDS };

struct started {
    u64 at[KINDS];
};

struct cgroup_key {
    u64 cgroup;
};

TASK_STORAGE(reclaim_started, struct started);
PERCPU_HASH(reclaim_seconds, struct timed_key, KINDS * LATENCY_SLOTS);
PERCPU_ARRAY(reclaimed_pages_total, MEMCG + 1);
PERCPU_HASH(oom_kills_total, struct cgroup_key, CGROUPS);

enum { LOST_START, LOST_LATENCY, LOST_KILL, LOST_KINDS };

PERCPU_ARRAY(memory_lost_total, LOST_KINDS);

static __always_inline int begin(u32 kind)
{
    struct started *started = task_value(&reclaim_started, BPF_LOCAL_STORAGE_GET_F_CREATE);

    if (started)
        started->at[kind] = bpf_ktime_get_ns();
    else
        array_add(&memory_lost_total, LOST_START, 1);
    return 0;
}

static __always_inline int end(u32 kind)
{
    struct started *started = task_value(&reclaim_started, 0);
    u64 took = started ? elapsed(&started->at[kind]) : 0;

    if (took && !timed_add(&reclaim_seconds, kind, took))
        array_add(&memory_lost_total, LOST_LATENCY, 1);
    return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(reclaim_begins)
{
    return begin(GLOBAL);
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int BPF_PROG(reclaim_ends, u64 pages)
{
    array_add(&reclaimed_pages_total, GLOBAL, pages);
    return end(GLOBAL);
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int BPF_PROG(memcg_reclaim_begins)
{
    return begin(MEMCG);
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int BPF_PROG(memcg_reclaim_ends, u64 pages)
{
    array_add(&reclaimed_pages_total, MEMCG, pages);
    return end(MEMCG);
}

SEC("tp_btf/mm_compaction_begin")
int BPF_PROG(compaction_begins)
{
    return begin(COMPACTION);
}

SEC("tp_btf/mm_compaction_end")
int BPF_PROG(compaction_ends)
{
    return end(COMPACTION);
}

/* In the task that asked for memory. Its arguments differ between kernels, so none is read. */
SEC("raw_tp/mark_victim")
int memory_victim(void *ctx)
{
    struct cgroup_key key = {.cgroup = bpf_get_current_cgroup_id()};

    if (!hash_add(&oom_kills_total, &key, 1))
        array_add(&memory_lost_total, LOST_KILL, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
