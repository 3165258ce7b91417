/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Packets that the kernel drops, on their way in or out: by reason and place, and those of UDP by reason and port.
 *
 * Packets that have been delivered, and those that a driver or an XDP program drops before they become the kernel's, are not among them.
 */
#include "drop_reason.bpf.h"

#define PLACES 2048
#define PORTS 2048

struct drop_key {
    u64 location;
    u32 reason;
    u32 padding;
};

struct udp_key {
    u32 port;
    u32 reason;
};

PERCPU_HASH(packet_drops_total, struct drop_key, PLACES);

PERCPU_HASH(udp_drops_total, struct udp_key, PORTS);

enum { LOST_DROP, LOST_UDP, LOST_KINDS };

PERCPU_ARRAY(packet_drops_lost_total, LOST_KINDS);

SEC("tp_btf/kfree_skb")
int packet_dropped(u64 *ctx)
{
    const struct sk_buff *skb = (const void *)ctx[0];
    struct drop_key drop = {.location = ctx[1], .reason = drop_reason(ctx[2])};
    struct flow flow = read_flow(skb);
    struct udp_key udp = {.port = flow.port, .reason = drop.reason};

    if (!hash_add(&packet_drops_total, &drop, 1))
        array_add(&packet_drops_lost_total, LOST_DROP, 1);
    if (flow.protocol == PROTOCOL_UDP && !hash_add(&udp_drops_total, &udp, 1))
        array_add(&packet_drops_lost_total, LOST_UDP, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
