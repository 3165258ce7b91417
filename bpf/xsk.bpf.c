/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * What becomes of packets that an XDP program sends to AF_XDP sockets, by the queue on which they came: received, or lost, most
 * often because a ring was full or empty. Copied or not, in the driver or above it.
 *
 * A driver that puts packets into a socket's memory by itself (zero copy) and finds no place there loses them before any XDP program
 * has seen them; that is told by the driver's own statistics, and by the socket's (XDP_STATISTICS, rx_fill_ring_empty_descs).
 */
#include "tracing.bpf.h"

#include "network.bpf.h"

#define QUEUES 1024

struct xdp_rxq_info {
    struct net_device *dev;
    u32 queue_index;
} core;

struct xdp_buff {
    struct xdp_rxq_info *rxq;
} core;

struct packet_key {
    u32 device;
    u32 queue;
    u32 result; /* an errno, 0 when it was received */
};

PERCPU_HASH(xsk_packets_total, struct packet_key, QUEUES);

enum { LOST_PACKET, LOST_KINDS };

PERCPU_ARRAY(xsk_lost_total, LOST_KINDS);

static __always_inline int count(const struct xdp_buff *xdp, int result)
{
    struct packet_key key = {
        .device = xdp->rxq->dev->ifindex,
        .queue = xdp->rxq->queue_index,
        .result = -result,
    };

    if (!hash_add(&xsk_packets_total, &key, 1))
        array_add(&xsk_lost_total, LOST_PACKET, 1);
    return 0;
}

SEC("fexit/__xsk_map_redirect")
int BPF_PROG(xsk_native, void *socket, struct xdp_buff *xdp, int result)
{
    return count(xdp, result);
}

SEC("fexit/xsk_generic_rcv")
int BPF_PROG(xsk_generic, void *socket, struct xdp_buff *xdp, int result)
{
    return count(xdp, result);
}

char LICENSE[] SEC("license") = "GPL";
