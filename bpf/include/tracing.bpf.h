/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * What programs on the kernel's typed tracepoints (tp_btf) and functions (fentry, fexit) share. Their arguments come with their
 * types, so that fields are read directly; a type is declared here or in the program, with only the fields that are read.
 */
#pragma once

#include "maps.bpf.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* One value a task: no table that can fill up, none that others can evict from. Not for code that may hold a run queue's lock. */
#define TASK_STORAGE(name, of)                    \
    struct {                                      \
        __uint(type, BPF_MAP_TYPE_TASK_STORAGE);  \
        __uint(map_flags, BPF_F_NO_PREALLOC);     \
        __type(key, int);                         \
        __type(value, of);                        \
    } name SEC(".maps")

/* A histogram of durations by one thing that has a number. */
struct timed_key {
    u32 what;
    u32 bucket;
};

/* Adds a duration to such a histogram; false when the map is full. */
static __always_inline int timed_add(void *map, u32 what, u64 took)
{
    struct timed_key key = {.what = what};

    return hash_observe(map, &key, &key.bucket, latency_bucket(took), LATENCY_SUM, took);
}

/* This task's value; with BPF_LOCAL_STORAGE_GET_F_CREATE, NULL only when there is no memory for it. */
#define task_value(map, flags) bpf_task_storage_get(map, bpf_get_current_task_btf(), 0, flags)
