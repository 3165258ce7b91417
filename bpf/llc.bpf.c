/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * References to the last-level cache, and misses, by the cgroup that was running. The processor counts them all; 99 times a second
 * a CPU's counter is read, and what it grew by is put down to the cgroup that it finds running.
 *
 * Takes a processor whose counters the kernel may use: most virtual machines have none.
 */
#include "maps.bpf.h"

#define CGROUPS 1024

PERCPU_HASH(llc_references_total, u64, CGROUPS);
PERCPU_HASH(llc_misses_total, u64, CGROUPS);

enum { REFERENCES, MISSES, EVENTS };

/* What each CPU's counters stood at when they were last read. */
PERCPU_ARRAY(llc_read, EVENTS);

enum { LOST_READ, LOST_CGROUP, LOST_KINDS };

PERCPU_ARRAY(llc_lost_total, LOST_KINDS);

static __always_inline int sample(void *ctx, u32 event, void *map)
{
    u64 cgroup = bpf_get_current_cgroup_id(), grown;
    u64 *before = bpf_map_lookup_elem(&llc_read, &event);
    struct bpf_perf_event_value now;

    if (!before || bpf_perf_prog_read_value(ctx, &now, sizeof(now))) {
        array_add(&llc_lost_total, LOST_READ, 1);
        return 0;
    }
    grown = now.counter - *before;
    *before = now.counter;
    if (!hash_add(map, &cgroup, grown))
        array_add(&llc_lost_total, LOST_CGROUP, grown);
    return 0;
}

/* PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_REFERENCES and PERF_COUNT_HW_CACHE_MISSES. */
SEC("perf_event/type=0,config=2,frequency=99")
int llc_references(void *ctx)
{
    return sample(ctx, REFERENCES, &llc_references_total);
}

SEC("perf_event/type=0,config=3,frequency=99")
int llc_misses(void *ctx)
{
    return sample(ctx, MISSES, &llc_misses_total);
}

char LICENSE[] SEC("license") = "GPL";
