/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * How long tasks that could run had to wait for a CPU, and why CPUs changed from one task to another.
 *
 * A task waits from the moment that it is woken, or put off its CPU while it would run on, until it is switched to. The tables of
 * waiting tasks are allocated beforehand: nothing may ask for memory while a run queue is locked. A task has a place of its own by
 * its number, which costs a tenth of a hash's entry that comes and goes; only one whose place another task has is in a hash.
 */
#include "tracing.bpf.h"

#define PLACES 65536
#define DISPLACED 8192

struct task_struct {
    int pid;
    unsigned int __state;
} core;

struct place {
    u32 pid; /* 0: free */
    u32 padding;
    u64 since;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, PLACES);
    __type(key, u32);
    __type(value, struct place);
} runqueue_waiting SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, DISPLACED);
    __type(key, u32);
    __type(value, u64);
} runqueue_displaced SEC(".maps");

PERCPU_ARRAY(runqueue_latency_seconds, LATENCY_SLOTS);

enum { VOLUNTARY, INVOLUNTARY, KINDS };

PERCPU_ARRAY(context_switches_total, KINDS);
PERCPU_ARRAY(task_migrations_total, 1);

enum { LOST_WAIT, LOST_KINDS };

PERCPU_ARRAY(runqueue_lost_total, LOST_KINDS);

/* Tasks with neighbouring numbers often run at once on different CPUs: an odd factor keeps their places in different cache lines. */
static __always_inline struct place *place_of(u32 pid)
{
    u32 key = pid * 40503 % PLACES;

    return bpf_map_lookup_elem(&runqueue_waiting, &key);
}

/* The kernel holds a lock of the task's, so that one CPU at a time deals with it; other tasks may want the same place. */
static __always_inline void waits(u32 pid, u64 now)
{
    struct place *place = place_of(pid);
    u32 owner;

    if (!pid || !place) /* 0: the idle task never waits */
        return;
    owner = __sync_val_compare_and_swap(&place->pid, 0, pid);
    if (!owner || owner == pid)
        place->since = now;
    else if (bpf_map_update_elem(&runqueue_displaced, &pid, &now, BPF_ANY))
        array_add(&runqueue_lost_total, LOST_WAIT, 1);
}

/* Since when the task has waited, which it no longer does; 0: it has not. */
static __always_inline u64 waited_since(u32 pid)
{
    struct place *place = place_of(pid);
    u64 *displaced, since = 0;

    if (!pid || !place)
        return 0;
    if (place->pid == pid) {
        since = place->since;
        __sync_lock_test_and_set(&place->pid, 0); /* not before `since` is read, on any machine */
        return since;
    }
    displaced = bpf_map_lookup_elem(&runqueue_displaced, &pid);
    if (displaced) {
        since = *displaced;
        bpf_map_delete_elem(&runqueue_displaced, &pid);
    }
    return since;
}

/* It waits for something else. If it was woken while it still ran, that was no wait; and a task that ends needs no place. */
static __always_inline void leave(u32 pid)
{
    struct place *place = place_of(pid);

    if (pid && place && place->pid == pid)
        place->pid = 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(runqueue_wakeup, struct task_struct *task)
{
    waits(task->pid, bpf_ktime_get_ns());
    return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(runqueue_wakeup_new, struct task_struct *task)
{
    waits(task->pid, bpf_ktime_get_ns());
    return 0;
}

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(runqueue_migrate)
{
    array_add(&task_migrations_total, 0, 1);
    return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(runqueue_switch, int preempted, struct task_struct *before, struct task_struct *after)
{
    int runs_on = preempted || !before->__state;
    u64 now = bpf_ktime_get_ns(), since;

    array_add(&context_switches_total, runs_on ? INVOLUNTARY : VOLUNTARY, 1);
    if (runs_on)
        waits(before->pid, now);
    else
        leave(before->pid);
    since = waited_since(after->pid);
    if (since)
        array_observe(&runqueue_latency_seconds, latency_bucket(now - since), LATENCY_SUM, now - since);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
