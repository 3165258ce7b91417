/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * The kernel's caches when memory runs short: how long each was asked to give back objects, and how many it gave. A filesystem's
 * is among them; one that takes long holds up whoever wants memory (memory's reclaim_seconds).
 */
#include "tracing.bpf.h"

#define SHRINKERS 128

struct shrinker {
    void *scan_objects;
} core;

struct shrink_key {
    u64 function;
    u32 bucket;
    u32 unused;
};

TASK_STORAGE(shrinkers_started, u64);

/* A cache seldom uses more than a third of its slots. */
PERCPU_HASH(shrinker_seconds, struct shrink_key, SHRINKERS * 16);
PERCPU_HASH(shrinker_objects_total, u64, SHRINKERS);

enum { LOST_START, LOST_LATENCY, LOST_OBJECTS, LOST_KINDS };

PERCPU_ARRAY(shrinkers_lost_total, LOST_KINDS);

SEC("tp_btf/mm_shrink_slab_start")
int BPF_PROG(shrinking_begins)
{
    u64 *started = task_value(&shrinkers_started, BPF_LOCAL_STORAGE_GET_F_CREATE);

    if (started)
        *started = bpf_ktime_get_ns();
    else
        array_add(&shrinkers_lost_total, LOST_START, 1);
    return 0;
}

SEC("tp_btf/mm_shrink_slab_end")
int BPF_PROG(shrinking_ends, struct shrinker *shrinker, int node, int freed)
{
    u64 took = elapsed(task_value(&shrinkers_started, 0));
    struct shrink_key key = {};

    if (!took)
        return 0;
    key.function = (u64)shrinker->scan_objects;
    if (freed > 0 && !hash_add(&shrinker_objects_total, &key.function, freed))
        array_add(&shrinkers_lost_total, LOST_OBJECTS, freed);
    if (!hash_observe(&shrinker_seconds, &key, &key.bucket, latency_bucket(took), LATENCY_SUM, took))
        array_add(&shrinkers_lost_total, LOST_LATENCY, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
