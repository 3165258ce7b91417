/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Interrupts: time in each handler and in each softirq, and which CPU takes how many of them.
 *
 * On one CPU a handler is not interrupted by another, nor a softirq by a softirq, so that one slot each is enough.
 */
#include "tracing.bpf.h"

#define IRQS 512
#define SOFTIRQS 10

struct irqaction {
    const char *name;
} core;

struct irq_key {
    u32 irq;
    char handler[20];
};

enum { HARD, SOFT, SLOTS };

PERCPU_ARRAY(interrupts_started, SLOTS);
PERCPU_HASH(hardirqs_total, struct irq_key, IRQS);
PERCPU_HASH(hardirq_seconds, struct timed_key, IRQS * 12);
PERCPU_HASH(softirq_seconds, struct timed_key, SOFTIRQS * LATENCY_SLOTS);

enum { LOST_COUNT, LOST_HARD, LOST_SOFT, LOST_KINDS };

PERCPU_ARRAY(interrupts_lost_total, LOST_KINDS);

static __always_inline int begin(u32 slot)
{
    u64 *started = bpf_map_lookup_elem(&interrupts_started, &slot);

    if (started)
        *started = bpf_ktime_get_ns();
    return 0;
}

static __always_inline u64 ended(u32 slot)
{
    return elapsed(bpf_map_lookup_elem(&interrupts_started, &slot));
}

SEC("tp_btf/irq_handler_entry")
int BPF_PROG(hardirq_begins)
{
    return begin(HARD);
}

SEC("tp_btf/irq_handler_exit")
int BPF_PROG(hardirq_ends, int irq, struct irqaction *action)
{
    struct irq_key key = {.irq = irq};
    u64 took = ended(HARD);

    if (!took)
        return 0;
    bpf_probe_read_kernel_str(key.handler, sizeof(key.handler), action->name);
    if (!hash_add(&hardirqs_total, &key, 1))
        array_add(&interrupts_lost_total, LOST_COUNT, 1);
    if (!timed_add(&hardirq_seconds, irq, took))
        array_add(&interrupts_lost_total, LOST_HARD, 1);
    return 0;
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(softirq_begins)
{
    return begin(SOFT);
}

SEC("tp_btf/softirq_exit")
int BPF_PROG(softirq_ends, unsigned int vector)
{
    u64 took = ended(SOFT);

    if (took && !timed_add(&softirq_seconds, vector, took))
        array_add(&interrupts_lost_total, LOST_SOFT, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
