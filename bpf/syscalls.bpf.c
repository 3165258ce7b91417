/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * System calls by number: how long they took, and how they ended.
 *
 * Both ends are tracepoints that every call passes, so each call on the node pays for a look at the list; keep it short, or count
 * one cgroup (syscalls.load.yaml). A call is counted when it ends: exit, and a call that never returns, are not.
 */
#include "tracing.bpf.h"

#define LONGEST_LIST 512
#define CALLS 96 /* different calls that there is room for */

/* Bit N: call N is measured. All zero: every call. */
const volatile u64 wanted_calls[LONGEST_LIST / 64] = {};
const volatile u32 every_call = 1;

struct pending {
    u64 started;
    u32 call;
};

struct call_key {
    u32 call;
};

struct error_key {
    u32 call;
    u32 error;
};

TASK_STORAGE(syscalls_pending, struct pending);
PERCPU_HASH(syscalls_total, struct call_key, LONGEST_LIST);
PERCPU_HASH(syscall_errors_total, struct error_key, CALLS * 8);
PERCPU_HASH(syscall_latency_seconds, struct timed_key, CALLS * 24);

enum { LOST_START, LOST_CALL, LOST_ERROR, LOST_LATENCY, LOST_KINDS };

PERCPU_ARRAY(syscalls_lost_total, LOST_KINDS);

static __always_inline int wanted(u64 call)
{
    if (every_call)
        return 1;
    return call < LONGEST_LIST && wanted_calls[call / 64 % (LONGEST_LIST / 64)] >> call % 64 & 1;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(syscalls_enter, void *registers, s64 call)
{
    struct pending *p;

    if (!wanted(call) || !counted_task())
        return 0;
    p = task_value(&syscalls_pending, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!p) {
        array_add(&syscalls_lost_total, LOST_START, 1);
        return 0;
    }
    p->call = call;
    p->started = bpf_ktime_get_ns();
    return 0;
}

/* The call is known from its beginning: where its number stands among the registers differs between machines. */
SEC("tp_btf/sys_exit")
int BPF_PROG(syscalls_exit, void *registers, s64 result)
{
    struct pending *p = task_value(&syscalls_pending, 0);
    struct error_key error = {};
    struct call_key key = {};
    u64 took;

    if (!p)
        return 0;
    took = elapsed(&p->started);
    if (!took) /* most calls, where there is a list: not worth a look at the clock */
        return 0;
    key.call = error.call = p->call;
    if (!hash_add(&syscalls_total, &key, 1))
        array_add(&syscalls_lost_total, LOST_CALL, 1);
    if (result < 0 && result >= -4095) {
        error.error = -result;
        if (!hash_add(&syscall_errors_total, &error, 1))
            array_add(&syscalls_lost_total, LOST_ERROR, 1);
    }
    if (!timed_add(&syscall_latency_seconds, p->call, took))
        array_add(&syscalls_lost_total, LOST_LATENCY, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
