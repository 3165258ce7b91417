/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * How long tasks that went to sleep were off the CPU, by what they waited in: from the switch away from them to the switch back, the
 * wait for a CPU at its end included (runqueue has that part alone). A task that is still asleep is not counted yet.
 *
 * All tasks of a node sleep most of the time: a filter (offcpu.load.yaml, by cgroup or process) makes it speak of one server.
 * The table is allocated beforehand: nothing may ask for memory while a run queue is locked.
 */
#include "tracing.bpf.h"

#define ASLEEP 65536

struct task_struct {
    int pid;
} core;

struct sleep {
    u64 since;
    u64 state;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, ASLEEP);
    __type(key, u32);
    __type(value, struct sleep);
} offcpu_asleep SEC(".maps");

enum { INTERRUPTIBLE, UNINTERRUPTIBLE, IDLE, OTHER, STATES };

/* Of the kernel's TASK_*. */
#define TASK_INTERRUPTIBLE 1
#define TASK_UNINTERRUPTIBLE 2
#define TASK_DEAD 0x80
#define TASK_NOLOAD 0x400

PERCPU_HASH(offcpu_seconds, struct timed_key, STATES * LATENCY_SLOTS);

enum { LOST_SLEEP, LOST_LATENCY, LOST_KINDS };

PERCPU_ARRAY(offcpu_lost_total, LOST_KINDS);

static __always_inline u32 kind_of(u32 state)
{
    if (state & TASK_INTERRUPTIBLE)
        return INTERRUPTIBLE;
    if (state & TASK_UNINTERRUPTIBLE)
        return state & TASK_NOLOAD ? IDLE : UNINTERRUPTIBLE;
    return OTHER;
}

static __always_inline void falls_asleep(u32 pid, u32 state)
{
    struct sleep sleep = {.since = bpf_ktime_get_ns(), .state = kind_of(state)};

    if (bpf_map_update_elem(&offcpu_asleep, &pid, &sleep, BPF_ANY))
        array_add(&offcpu_lost_total, LOST_SLEEP, 1);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(offcpu_switch, int preempted, struct task_struct *before, struct task_struct *after, unsigned int state)
{
    u32 pid = after->pid;
    struct sleep *sleep;

    if (!preempted && state && !(state & TASK_DEAD) && counted_task())
        falls_asleep(before->pid, state);
    sleep = bpf_map_lookup_elem(&offcpu_asleep, &pid);
    if (!sleep)
        return 0;
    if (!timed_add(&offcpu_seconds, sleep->state, bpf_ktime_get_ns() - sleep->since))
        array_add(&offcpu_lost_total, LOST_LATENCY, 1);
    bpf_map_delete_elem(&offcpu_asleep, &pid);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
