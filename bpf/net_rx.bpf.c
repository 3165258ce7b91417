/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * How the kernel comes to the packets that a device has received: the wait from the raising of NET_RX to its run, the run, and what each
 * poll of a device finds.
 *
 * The soft interrupt is raised, enters and leaves on one CPU, with no other in between: the times are kept per CPU.
 */
#include "network.bpf.h"

#define NET_RX 3
#define DEVICES 256
#define PACKETS_MAX 12 /* exp2zero: 0, 1, 2 ... 2048 packets */
/* Nanoseconds: 64 ns ... 8.6 s */
#define SOFTIRQ_MAX 33
#define SOFTIRQ_SLOTS (SOFTIRQ_MAX + 2)

struct napi_struct {
    struct net_device *dev;
} core;

struct poll_key {
    u32 device;
    u32 result;
};

struct packets_key {
    u32 device;
    u32 bucket;
};

enum { POLL_EMPTY, POLL_PARTIAL, POLL_EXHAUSTED };
enum { RAISED, ENTERED, MOMENTS };

PERCPU_ARRAY(net_rx_moments, MOMENTS);

PERCPU_ARRAY(net_rx_wait_seconds, SOFTIRQ_SLOTS);

PERCPU_ARRAY(net_rx_run_seconds, SOFTIRQ_SLOTS);

PERCPU_HASH(napi_polls_total, struct poll_key, DEVICES * 3);

PERCPU_HASH(napi_poll_packets, struct packets_key, DEVICES * (PACKETS_MAX + 2));

enum { LOST_POLL, LOST_PACKETS, LOST_KINDS };

PERCPU_ARRAY(net_rx_lost_total, LOST_KINDS);

static __always_inline u64 *moment(u32 which)
{
    return bpf_map_lookup_elem(&net_rx_moments, &which);
}

static __always_inline void observe(void *map, u64 ns)
{
    array_observe(map, exp2_bucket(ns, LATENCY_MIN, SOFTIRQ_MAX), SOFTIRQ_MAX + 1, ns);
}

/* Raised again before it ran: it is the first time that counts. */
SEC("tp_btf/softirq_raise")
int net_rx_raise(u64 *ctx)
{
    u64 *raised;

    if ((u32)ctx[0] != NET_RX)
        return 0;
    raised = moment(RAISED);
    if (raised && !*raised)
        *raised = bpf_ktime_get_ns();
    return 0;
}

SEC("tp_btf/softirq_entry")
int net_rx_entry(u64 *ctx)
{
    u64 now, *raised, *entered;

    if ((u32)ctx[0] != NET_RX)
        return 0;
    raised = moment(RAISED);
    entered = moment(ENTERED);
    if (!raised || !entered)
        return 0;
    now = bpf_ktime_get_ns();
    if (*raised)
        observe(&net_rx_wait_seconds, now - *raised);
    *raised = 0;
    *entered = now;
    return 0;
}

SEC("tp_btf/softirq_exit")
int net_rx_exit(u64 *ctx)
{
    u64 took;

    if ((u32)ctx[0] != NET_RX)
        return 0;
    took = elapsed(moment(ENTERED));
    if (took)
        observe(&net_rx_run_seconds, took);
    return 0;
}

/* Work that fills the budget is not done: the device will be polled again. A poll without a device is the CPU's own backlog. */
SEC("tp_btf/napi_poll")
int net_rx_poll(u64 *ctx)
{
    const struct napi_struct *napi = (const void *)ctx[0];
    const struct net_device *dev = napi->dev;
    int work = ctx[1], budget = ctx[2];
    struct packets_key packets = {};
    struct poll_key key = {.result = work <= 0 ? POLL_EMPTY : work < budget ? POLL_PARTIAL : POLL_EXHAUSTED};

    if (dev)
        packets.device = key.device = dev->ifindex;
    if (!hash_add(&napi_polls_total, &key, 1))
        array_add(&net_rx_lost_total, LOST_POLL, 1);
    if (work >= 0 && !hash_observe(&napi_poll_packets, &packets, &packets.bucket, exp2zero_bucket(work, PACKETS_MAX),
                                   PACKETS_MAX + 1, work))
        array_add(&net_rx_lost_total, LOST_PACKETS, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
