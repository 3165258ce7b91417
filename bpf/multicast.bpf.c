/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * IP multicast on every device: packets and bytes by group, as they arrive and as they leave.
 *
 * Bytes are those of the IP packet, as its header says: a frame's header and its padding do not count.
 */
#include "network.bpf.h"

#define GROUPS 4096

enum { RECEIVE, TRANSMIT };

struct group_key {
    u32 device;
    u32 direction;
    struct address group;
};

PERCPU_HASH(multicast_packets_total, struct group_key, GROUPS);

PERCPU_HASH(multicast_bytes_total, struct group_key, GROUPS);

enum { LOST_PACKET, LOST_KINDS };

PERCPU_ARRAY(multicast_lost_total, LOST_KINDS);

/* The group that a packet is for, and the bytes of the packet; 0 bytes when it is not for a group. */
static __always_inline u64 group_of(u16 type, const void *header, struct address *group)
{
    struct ipv4 four;
    struct ipv6 six;

    if (type == bpf_htons(ETHERTYPE_IPV4)) {
        if (bpf_probe_read_kernel(&four, sizeof(four), header) || !is_ipv4_group(four.destination))
            return 0;
        set_ipv4(group, four.destination);
        return bpf_ntohs(four.total_length);
    }
    if (type == bpf_htons(ETHERTYPE_IPV6)) {
        if (bpf_probe_read_kernel(&six, sizeof(six), header) || six.destination[0] != 0xff)
            return 0;
        __builtin_memcpy(group, six.destination, sizeof(*group));
        return sizeof(six) + bpf_ntohs(six.payload_length);
    }
    return 0;
}

static __always_inline void count(const struct sk_buff *skb, u32 device, u32 direction, const void *header)
{
    struct group_key key = {.device = device, .direction = direction};
    u64 bytes = group_of(skb->protocol, header, &key.group);

    if (!bytes)
        return;
    if (!hash_add(&multicast_packets_total, &key, 1) || !hash_add(&multicast_bytes_total, &key, bytes))
        array_add(&multicast_lost_total, LOST_PACKET, 1);
}

/* Here the Ethernet header is already taken off: the data begin with the IP header. */
SEC("tp_btf/netif_receive_skb")
int multicast_receive(u64 *ctx)
{
    const struct sk_buff *skb = (const void *)ctx[0];

    count(skb, skb->dev->ifindex, RECEIVE, skb->data);
    return 0;
}

SEC("tp_btf/net_dev_start_xmit")
int multicast_transmit(u64 *ctx)
{
    const struct sk_buff *skb = (const void *)ctx[0];
    const struct net_device *device = (const void *)ctx[1];

    count(skb, device->ifindex, TRANSMIT, skb->head + skb->network_header);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
