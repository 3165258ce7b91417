/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * For tests: every call of one syscall by threads of one name is an event in a ring; the software clock ticks; and calls from
 * cgroups that user space has put into a map are counted.
 */
#include "maps.bpf.h"

const volatile u64 wanted_nr = ~0ULL;
const volatile char wanted_comm[16] = "";
/* 1: no event is like another */
const volatile u32 unique = 0;

static u32 number;

struct event {
    u64 nr;
    u32 number;
    u32 padding;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(u32));
    __uint(value_size, sizeof(u32));
} feed_events_total SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, u64);
    __type(value, u64);
} feed_cgroups SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
    __uint(max_entries, 4096);
    __type(key, u64);
    __type(value, u64);
} feed_calls_total SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64);
} feed_ticks_total SEC(".maps");

SEC("raw_tp/sys_enter")
int feed_call(u64 *ctx)
{
    u64 cgroup = bpf_get_current_cgroup_id();
    struct event event = {};
    char comm[16];

    if (ctx[1] != wanted_nr)
        return 0;
    if (bpf_map_lookup_elem(&feed_cgroups, &cgroup))
        hash_add(&feed_calls_total, &cgroup, 1);
    bpf_get_current_comm(comm, sizeof(comm));
    for (int i = 0; i < 16; i++)
        if (comm[i] != wanted_comm[i])
            return 0;
    event.nr = wanted_nr;
    if (unique)
        event.number = __sync_fetch_and_add(&number, 1);
    bpf_perf_event_output(ctx, &feed_events_total, BPF_F_CURRENT_CPU, &event, sizeof(event));
    return 0;
}

SEC("perf_event/type=1,config=0,frequency=99")
int feed_tick(void *ctx)
{
    array_add(&feed_ticks_total, 0, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
