/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * What arrives at one network device, before the kernel makes anything of it: packets and bytes, by what becomes of them, and
 * for IP multicast by group. Every packet passes, except those for the UDP port `drop_udp_port`, when that is set.
 *
 * The device is chosen when the program is attached (X.load.yaml). Bytes are those of the frame, with its Ethernet header.
 */
#include "network.bpf.h"

#define GROUPS 4096
#define ETHERNET_HEADER 14
#define VLAN_TAG 4

const volatile u16 drop_udp_port = 0;

struct group_key {
    u32 device;
    struct address group;
};

PERCPU_ARRAY(xdp_packets_total, XDP_REDIRECT + 1);

PERCPU_ARRAY(xdp_bytes_total, XDP_REDIRECT + 1);

PERCPU_HASH(xdp_group_packets_total, struct group_key, GROUPS);

PERCPU_HASH(xdp_group_bytes_total, struct group_key, GROUPS);

enum { LOST_GROUP, LOST_KINDS };

PERCPU_ARRAY(xdp_lost_total, LOST_KINDS);

static __always_inline int is_vlan(u16 type)
{
    return type == bpf_htons(0x8100) || type == bpf_htons(0x88a8);
}

/* Where a packet's IP header begins, behind up to two VLAN tags, and its type; past the end when there is none. */
static __always_inline void *network_header(void *data, void *end, u16 *type)
{
    void *at = data + ETHERNET_HEADER;

    if (at > end)
        return end;
    *type = *(u16 *)(at - 2);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (!is_vlan(*type))
            break;
        at += VLAN_TAG;
        if (at > end)
            return end;
        *type = *(u16 *)(at - 2);
    }
    return at;
}

static __always_inline int is_dropped_port(void *udp, void *end)
{
    return drop_udp_port && udp + 4 <= end && *(u16 *)(udp + 2) == bpf_htons(drop_udp_port);
}

static __always_inline void count_group(struct group_key *key, u64 bytes)
{
    if (!hash_add(&xdp_group_packets_total, key, 1) || !hash_add(&xdp_group_bytes_total, key, bytes))
        array_add(&xdp_lost_total, LOST_GROUP, 1);
}

static __always_inline u32 judge_ipv4(struct ipv4 *ip, void *end, struct group_key *key, u64 bytes)
{
    if ((void *)(ip + 1) > end)
        return XDP_PASS;
    if (is_ipv4_group(ip->destination)) {
        set_ipv4(&key->group, ip->destination);
        count_group(key, bytes);
    }
    if (ip->protocol == PROTOCOL_UDP && !(ip->fragment & bpf_htons(0x1fff)) &&
        is_dropped_port((void *)ip + (ip->version_ihl & 15) * 4, end))
        return XDP_DROP;
    return XDP_PASS;
}

static __always_inline u32 judge_ipv6(struct ipv6 *ip, void *end, struct group_key *key, u64 bytes)
{
    if ((void *)(ip + 1) > end)
        return XDP_PASS;
    if (ip->destination[0] == 0xff) {
        __builtin_memcpy(&key->group, ip->destination, sizeof(key->group));
        count_group(key, bytes);
    }
    if (ip->next_header == PROTOCOL_UDP && is_dropped_port(ip + 1, end))
        return XDP_DROP;
    return XDP_PASS;
}

SEC("xdp")
int xdp_count(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *ip;
    struct group_key key = {.device = ctx->ingress_ifindex};
    u64 bytes = end - data;
    u32 action = XDP_PASS;
    u16 type = 0;

    ip = network_header(data, end, &type);
    if (type == bpf_htons(ETHERTYPE_IPV4))
        action = judge_ipv4(ip, end, &key, bytes);
    else if (type == bpf_htons(ETHERTYPE_IPV6))
        action = judge_ipv6(ip, end, &key, bytes);
    array_add(&xdp_packets_total, action, 1);
    array_add(&xdp_bytes_total, action, bytes);
    return action;
}

char LICENSE[] SEC("license") = "GPL";
