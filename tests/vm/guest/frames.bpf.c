/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * An XDP program whose verdict stands in the frame: the byte behind an Ethernet header of the type for experiments. XDP_REDIRECT is to
 * the AF_XDP socket of the queue; two more verdicts are to the one device and to the one CPU that the maps have.
 */
#include "network.bpf.h"

#define EXPERIMENT 0x88b5
#define TO_DEVICE 6
#define TO_CPU 7

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, 4);
    __type(key, u32);
    __type(value, u32);
} frame_sockets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u32);
} frame_devices SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_CPUMAP);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u32);
} frame_cpus SEC(".maps");

SEC("xdp")
int frame_verdict_as_it_is_written(struct xdp_md *ctx)
{
    u8 *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

    if (frame + 15 > end || *(u16 *)(frame + 12) != bpf_htons(EXPERIMENT))
        return XDP_PASS;
    switch (frame[14]) {
    case XDP_REDIRECT:
        return bpf_redirect_map(&frame_sockets, ctx->rx_queue_index, XDP_PASS);
    case TO_DEVICE:
        return bpf_redirect_map(&frame_devices, 0, XDP_ABORTED);
    case TO_CPU:
        return bpf_redirect_map(&frame_cpus, 0, XDP_ABORTED);
    default:
        return frame[14];
    }
}

char LICENSE[] SEC("license") = "GPL";
