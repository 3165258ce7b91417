/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * The kernel's network types, with the fields that are read here, and what the programs on packets and sockets share.
 */
#pragma once

#include "maps.bpf.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PORT_NFS 2049

struct net_device {
    int ifindex;
} core;

struct sk_buff {
    struct net_device *dev;
    u32 len;
    u16 protocol;
    u16 transport_header;
    u16 network_header;
    unsigned char *head;
    unsigned char *data;
} core;

struct sock_common {
    u16 skc_dport;
    u16 skc_num;
    u16 skc_family;
    volatile unsigned char skc_state;
} core;

struct sock {
    struct sock_common __sk_common;
    int sk_err;
    u32 sk_ack_backlog;
    u32 sk_max_ack_backlog;
    u16 sk_protocol;
} core;

/* The start of an IPv4 header, and of an IPv6 one, as they are on the wire. */
struct ipv4 {
    u8 version_ihl, tos;
    u16 total_length, id, fragment;
    u8 ttl, protocol;
    u16 checksum;
    u32 source, destination;
};

struct ipv6 {
    u8 version_class, flow[3];
    u16 payload_length;
    u8 next_header, hop_limit;
    u8 source[16], destination[16];
};

/* An address as the decoder inet_ip takes it: 16 bytes, where an IPv4 one is mapped into IPv6. */
struct address {
    u8 bytes[16];
};

static __always_inline void set_ipv4(struct address *a, u32 address)
{
    __builtin_memset(a->bytes, 0, 10);
    a->bytes[10] = a->bytes[11] = 0xff;
    __builtin_memcpy(a->bytes + 12, &address, 4);
}

/* Addresses are in network order. */
static __always_inline int is_ipv4_group(u32 address)
{
    return (address & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000);
}

/* The protocol of an IP packet, and the port that it is for; 0 where there is none, or only in the packet's first fragment. */
struct flow {
    u32 protocol;
    u32 port;
};

static __always_inline void read_port(struct flow *flow, const void *header)
{
    u16 ports[2];

    if ((flow->protocol == PROTOCOL_TCP || flow->protocol == PROTOCOL_UDP) && !bpf_probe_read_kernel(ports, sizeof(ports), header))
        flow->port = bpf_ntohs(ports[1]);
}

static __always_inline struct flow read_flow(const struct sk_buff *skb)
{
    const void *header = skb->head + skb->network_header;
    struct flow flow = {};
    struct ipv4 four;
    struct ipv6 six;

    if (skb->protocol == bpf_htons(ETHERTYPE_IPV4) && !bpf_probe_read_kernel(&four, sizeof(four), header) &&
        four.version_ihl >> 4 == 4) {
        flow.protocol = four.protocol;
        if (!(four.fragment & bpf_htons(0x1fff)))
            read_port(&flow, header + (four.version_ihl & 15) * 4);
    } else if (skb->protocol == bpf_htons(ETHERTYPE_IPV6) && !bpf_probe_read_kernel(&six, sizeof(six), header) &&
               six.version_class >> 4 == 6) {
        flow.protocol = six.next_header;
        read_port(&flow, header + sizeof(six));
    }
    return flow;
}

/* The port that tells what a connection is for: NFS's, whose clients use low ports themselves, or else the lower of both. */
static __always_inline u32 service_port(const struct sock *sk)
{
    u16 local = sk->__sk_common.skc_num, peer = bpf_ntohs(sk->__sk_common.skc_dport);

    if (local == PORT_NFS || peer == PORT_NFS)
        return PORT_NFS;
    return !peer || (local && local < peer) ? local : peer;
}

/* A histogram by port. */
struct port_key {
    u32 port;
    u32 bucket;
};
