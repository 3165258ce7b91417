/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * What goes wrong with the XDP programs of a node, whoever loaded them: verdicts that the kernel cannot carry out, redirects that
 * fail, and packets lost on their way through a device map or a CPU map.
 */
#include "network.bpf.h"

#define DEVICES 1024

struct exception_key {
    u32 device;
    u32 action;
};

struct error_key {
    u32 device;
    u32 error;
};

struct drop_key {
    u32 from;
    u32 to;
};

PERCPU_HASH(xdp_exceptions_total, struct exception_key, DEVICES);

PERCPU_HASH(xdp_redirect_errors_total, struct error_key, DEVICES);

PERCPU_HASH(xdp_devmap_drops_total, struct drop_key, DEVICES);

PERCPU_HASH(xdp_cpumap_drops_total, u32, DEVICES);

enum { LOST_EXCEPTION, LOST_REDIRECT, LOST_DEVMAP, LOST_CPUMAP, LOST_KINDS };

PERCPU_ARRAY(xdp_errors_lost_total, LOST_KINDS);

static __always_inline int count(void *map, const void *key, u64 n, u32 what)
{
    if (!hash_add(map, key, n))
        array_add(&xdp_errors_lost_total, what, n);
    return 0;
}

/* Numbers that are no verdict all count as one, so that a program gone wild does not fill the table. */
SEC("tp_btf/xdp_exception")
int xdp_exception(u64 *ctx)
{
    const struct net_device *dev = (const void *)ctx[0];
    u32 action = ctx[2];
    struct exception_key key = {.device = dev->ifindex, .action = action > XDP_REDIRECT ? XDP_REDIRECT + 1 : action};

    return count(&xdp_exceptions_total, &key, 1, LOST_EXCEPTION);
}

SEC("tp_btf/xdp_redirect_err")
int xdp_redirect_failed(u64 *ctx)
{
    const struct net_device *dev = (const void *)ctx[0];
    int error = ctx[3];
    struct error_key key = {.device = dev->ifindex, .error = error < 0 ? -error : error};

    return count(&xdp_redirect_errors_total, &key, 1, LOST_REDIRECT);
}

SEC("tp_btf/xdp_devmap_xmit")
int xdp_devmap_sent(u64 *ctx)
{
    const struct net_device *from = (const void *)ctx[0], *to = (const void *)ctx[1];
    int drops = ctx[3];
    struct drop_key key = {};

    if (drops <= 0)
        return 0;
    key.from = from->ifindex;
    key.to = to->ifindex;
    return count(&xdp_devmap_drops_total, &key, drops, LOST_DEVMAP);
}

SEC("tp_btf/xdp_cpumap_enqueue")
int xdp_cpumap_queued(u64 *ctx)
{
    u32 drops = ctx[2], to = ctx[3];

    return drops ? count(&xdp_cpumap_drops_total, &to, drops, LOST_CPUMAP) : 0;
}

char LICENSE[] SEC("license") = "GPL";
