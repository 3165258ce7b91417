/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Calls of statx(2) and how long they took, for each cgroup.
 *
 * Both ends of the call are the syscall's own tracepoints: they fire on every stock kernel, they cannot miss a call under
 * load as a kretprobe can, and they fire for a call that an error injection answers in the kernel's place.
 * The counter and the histogram are updated at the end of a call, so that both agree at any time.
 */
#include "tracing.bpf.h"

#define CGROUPS 512

struct call_key {
    u64 cgroup;
};

struct latency_key {
    u64 cgroup;
    u32 bucket;
    u32 padding;
};

/* When the call that this task is in began. */
TASK_STORAGE(statx_started, u64);

PERCPU_HASH(statx_calls_total, struct call_key, CGROUPS);

/* A cgroup seldom uses more than a third of its slots. */
PERCPU_HASH(statx_latency_seconds, struct latency_key, CGROUPS * 16);

enum { LOST_START, LOST_CALL, LOST_LATENCY, LOST_KINDS };

PERCPU_ARRAY(statx_lost_total, LOST_KINDS);

SEC("tp/syscalls/sys_enter_statx")
int statx_enter(struct syscall_enter *ctx)
{
    u64 *started;

    if (!counted_task())
        return 0;
    started = task_value(&statx_started, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!started) {
        array_add(&statx_lost_total, LOST_START, 1);
        return 0;
    }
    *started = bpf_ktime_get_ns();
    return 0;
}

SEC("tp/syscalls/sys_exit_statx")
int statx_exit(struct syscall_exit *ctx)
{
    u64 took = elapsed(task_value(&statx_started, 0));
    struct latency_key latency = {};
    struct call_key call = {};

    if (!took)
        return 0;
    call.cgroup = latency.cgroup = bpf_get_current_cgroup_id();
    if (!hash_add(&statx_calls_total, &call, 1))
        array_add(&statx_lost_total, LOST_CALL, 1);
    if (!hash_observe(&statx_latency_seconds, &latency, &latency.bucket, latency_bucket(took), LATENCY_SUM, took))
        array_add(&statx_lost_total, LOST_LATENCY, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
