/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * The verdicts of an XDP program that somebody else has loaded: which one is chosen at run time, by the device that it is on
 * (xdp_verdicts.load.yaml). It runs as before, and this one after it.
 *
 * The question mark: there is nothing that this can be loaded for until that program is there. With libxdp's dispatcher the verdict is
 * the dispatcher's, which is the last word.
 */
#include "tracing.bpf.h"

#include "network.bpf.h"

#define DEVICES 64

struct xdp_rxq_info {
    struct net_device *dev;
} core;

struct xdp_buff {
    struct xdp_rxq_info *rxq;
} core;

struct verdict_key {
    u32 device;
    u32 action;
};

/* The number behind the last verdict stands for all that are none. */
PERCPU_HASH(xdp_verdicts_total, struct verdict_key, DEVICES * (XDP_REDIRECT + 2));

enum { LOST_VERDICT, LOST_KINDS };

PERCPU_ARRAY(xdp_verdicts_lost_total, LOST_KINDS);

SEC("?fexit")
int BPF_PROG(xdp_verdict, struct xdp_buff *xdp, u32 verdict)
{
    struct verdict_key key = {
        .device = xdp->rxq->dev->ifindex,
        .action = verdict > XDP_REDIRECT ? XDP_REDIRECT + 1 : verdict,
    };

    if (!hash_add(&xdp_verdicts_total, &key, 1))
        array_add(&xdp_verdicts_lost_total, LOST_VERDICT, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
