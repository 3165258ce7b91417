/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * The ground of every program here: short type names, the helpers, and the few kernel types that are used, declared by
 * ourselves. No vmlinux.h: a type that is read through CO-RE is declared with only the fields that are read.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#define core __attribute__((preserve_access_index))

/* Only its identity is used: as the owner of task storage. */
struct task_struct;

/* What syscall tracepoints hand over. The layout is the one that tracefs prints in their `format` files. */
struct syscall_enter {
    u64 common;
    s64 nr;
    u64 args[6];
};

struct syscall_exit {
    u64 common;
    s64 nr;
    s64 ret;
};

/* What a program counts, chosen before it is loaded (see X.load.yaml): 0 means everybody.
 * A cgroup stands for its whole subtree; its level is its depth below the root of cgroup v2, which is level 0. */
const volatile u64 filter_cgroup = 0;
const volatile u32 filter_cgroup_level = 0;
const volatile u32 filter_tgid = 0;

static __always_inline int counted_task(void)
{
    if (filter_tgid && bpf_get_current_pid_tgid() >> 32 != filter_tgid)
        return 0;
    return !filter_cgroup || bpf_get_current_ancestor_cgroup_id(filter_cgroup_level) == filter_cgroup;
}

/* Nanoseconds since the moment that is kept there, which is forgotten now; 0: there is none, its beginning was not seen. */
static __always_inline u64 elapsed(u64 *since)
{
    u64 took;

    if (!since || !*since)
        return 0;
    took = bpf_ktime_get_ns() - *since;
    *since = 0;
    return took;
}
