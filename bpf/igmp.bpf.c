/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Who joins and leaves IPv4 multicast groups here: each socket for itself, and the kernel. A socket that is closed leaves all its
 * groups. The reports that this makes the kernel send are seen by the program `multicast`, as packets to 224.0.0.22.
 *
 * The functions are hooked directly, since the kernel has no tracepoints there.
 */
#include "network.bpf.h"

#define GROUPS 4096

struct in_device {
    struct net_device *dev;
} core;

struct membership_key {
    u32 device;
    u32 group;
};

PERCPU_HASH(igmp_joins_total, struct membership_key, GROUPS);

PERCPU_HASH(igmp_leaves_total, struct membership_key, GROUPS);

enum { LOST_JOIN, LOST_LEAVE, LOST_KINDS };

PERCPU_ARRAY(igmp_lost_total, LOST_KINDS);

static __always_inline int count(void *map, u64 *ctx, u32 what)
{
    const struct in_device *in = (const void *)ctx[0];
    struct membership_key key = {.device = in->dev->ifindex, .group = ctx[1]};

    if (!hash_add(map, &key, 1))
        array_add(&igmp_lost_total, what, 1);
    return 0;
}

SEC("fentry/____ip_mc_inc_group")
int igmp_join(u64 *ctx)
{
    return count(&igmp_joins_total, ctx, LOST_JOIN);
}

SEC("fentry/__ip_mc_dec_group")
int igmp_leave(u64 *ctx)
{
    return count(&igmp_leaves_total, ctx, LOST_LEAVE);
}

char LICENSE[] SEC("license") = "GPL";
