/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * How long tasks that could run had to wait for a CPU, and why CPUs changed from one task to another.
 *
 * A task waits from the moment that it is woken, or put off its CPU while it would run on, until it is switched to. The table of
 * waiting tasks is allocated beforehand: nothing may ask for memory while a run queue is locked.
 */
#include "tracing.bpf.h"

#define WAITING 65536

struct task_struct {
    int pid;
    unsigned int __state;
} core;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, WAITING);
    __type(key, u32);
    __type(value, u64);
} runqueue_waiting SEC(".maps");

PERCPU_ARRAY(runqueue_latency_seconds, LATENCY_SLOTS);

enum { VOLUNTARY, INVOLUNTARY, KINDS };

PERCPU_ARRAY(context_switches_total, KINDS);
PERCPU_ARRAY(task_migrations_total, 1);

enum { LOST_WAIT, LOST_KINDS };

PERCPU_ARRAY(runqueue_lost_total, LOST_KINDS);

static __always_inline int waits(u32 pid)
{
    u64 now = bpf_ktime_get_ns();

    if (pid && bpf_map_update_elem(&runqueue_waiting, &pid, &now, BPF_ANY))
        array_add(&runqueue_lost_total, LOST_WAIT, 1);
    return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(runqueue_wakeup, struct task_struct *task)
{
    return waits(task->pid);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(runqueue_wakeup_new, struct task_struct *task)
{
    return waits(task->pid);
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
    u32 pid = after->pid;
    u64 *since, took;

    array_add(&context_switches_total, runs_on ? INVOLUNTARY : VOLUNTARY, 1);
    if (runs_on)
        waits(before->pid);
    since = bpf_map_lookup_elem(&runqueue_waiting, &pid);
    if (!since)
        return 0;
    took = bpf_ktime_get_ns() - *since;
    bpf_map_delete_elem(&runqueue_waiting, &pid);
    array_add(&runqueue_latency_seconds, exp2_bucket(took, LATENCY_MIN, LATENCY_MAX), 1);
    array_add(&runqueue_latency_seconds, LATENCY_SUM, took);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
