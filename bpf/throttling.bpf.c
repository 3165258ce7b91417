/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * How long cgroups that had used up their CPU time (cpu.max) were held back, one CPU's share of a cgroup at a time.
 *
 * The table of those that are held back is allocated beforehand: nothing may ask for memory while a run queue is locked.
 */
#include "tracing.bpf.h"

#define HELD 16384
#define CGROUPS 256

struct kernfs_node {
    u64 id;
} core;

struct cgroup {
    struct kernfs_node *kn;
} core;

struct cgroup_subsys_state {
    struct cgroup *cgroup;
} core;

struct task_group {
    struct cgroup_subsys_state css;
} core;

struct cfs_rq {
    struct task_group *tg;
} core;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, HELD);
    __type(key, u64);
    __type(value, u64);
} throttling_held SEC(".maps");

struct throttled_key {
    u64 cgroup;
    u32 bucket;
    u32 unused;
};

/* Periods are tens of milliseconds long: a cgroup seldom uses more than a third of its slots. */
PERCPU_HASH(cpu_throttled_seconds, struct throttled_key, CGROUPS * 16);

enum { LOST_START, LOST_LATENCY, LOST_KINDS };

PERCPU_ARRAY(throttling_lost_total, LOST_KINDS);

/* It returns a bool, in the lowest byte: whether it did hold it back. */
SEC("fexit/throttle_cfs_rq")
int throttling_begins(u64 *ctx)
{
    u64 queue = ctx[0], now = bpf_ktime_get_ns();

    if ((u8)ctx[1] && bpf_map_update_elem(&throttling_held, &queue, &now, BPF_ANY))
        array_add(&throttling_lost_total, LOST_START, 1);
    return 0;
}

SEC("fentry/unthrottle_cfs_rq")
int BPF_PROG(throttling_ends, struct cfs_rq *cfs_rq)
{
    u64 queue = (u64)cfs_rq, took;
    u64 *since = bpf_map_lookup_elem(&throttling_held, &queue);
    struct throttled_key key = {};

    if (!since)
        return 0;
    took = bpf_ktime_get_ns() - *since;
    bpf_map_delete_elem(&throttling_held, &queue);
    key.cgroup = cfs_rq->tg->css.cgroup->kn->id;
    if (!hash_observe(&cpu_throttled_seconds, &key, &key.bucket, latency_bucket(took), LATENCY_SUM, took))
        array_add(&throttling_lost_total, LOST_LATENCY, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
