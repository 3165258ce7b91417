/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * An XDP program with mistakes, chosen by the UDP port: 5001 is aborted, 5002 has a verdict that there is not, 5003 goes to a
 * device that there is not.
 */
#include "network.bpf.h"

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 4);
    __type(key, u32);
    __type(value, u64);
} xdp_broken_total SEC(".maps");

struct frame {
    u8 ethernet[14];
    struct ipv4 ip;
    u16 source, destination;
} __attribute__((packed));

SEC("xdp")
int xdp_broken(struct xdp_md *ctx)
{
    struct frame *frame = (void *)(long)ctx->data;
    u16 port;

    if ((void *)(frame + 1) > (void *)(long)ctx->data_end || frame->ip.protocol != PROTOCOL_UDP)
        return XDP_PASS;
    port = bpf_ntohs(frame->destination);
    if (port < 5001 || port > 5003)
        return XDP_PASS;
    array_add(&xdp_broken_total, port - 5000, 1);
    return port == 5001 ? XDP_ABORTED : port == 5002 ? 42 : bpf_redirect(123456, 0);
}

char LICENSE[] SEC("license") = "GPL";
