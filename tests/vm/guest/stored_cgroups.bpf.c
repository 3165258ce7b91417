/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * System calls from cgroups that the exporter has marked, each in the storage of the cgroup itself: from Linux 6.2.
 */
#include "tracing.bpf.h"

#define CGRP_STORAGE 32 /* newer than the headers that this is compiled with */

struct cgroup;

struct css_set {
    struct cgroup *dfl_cgrp;
} core;

struct task_struct {
    struct css_set *cgroups;
} core;

struct {
    __uint(type, CGRP_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, u64);
} stored_cgroups SEC(".maps");

PERCPU_HASH(stored_cgroups_total, u64, 16);

SEC("tp_btf/sys_enter")
int BPF_PROG(stored_cgroup_calls)
{
    struct task_struct *task = bpf_get_current_task_btf();
    u64 *marked = bpf_cgrp_storage_get(&stored_cgroups, task->cgroups->dfl_cgrp, 0, 0), cgroup;

    if (!marked || !*marked)
        return 0;
    cgroup = bpf_get_current_cgroup_id();
    hash_add(&stored_cgroups_total, &cgroup, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
