/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * BPF itself: who calls bpf(2) for what, how that ends, and how much memory translated programs use.
 *
 * An exporter reads its maps by bpf(2), so that what is served of the memory is never older than the last reading.
 */
#include "tracing.bpf.h"

/* Their addresses, from the kernel's list of symbols; 0 where that has no variables (CONFIG_KALLSYMS_ALL), and then so are the metrics. */
extern const void bpf_jit_current __ksym __weak;
extern const void bpf_jit_limit __ksym __weak;

struct call_key {
    u32 command;
};

struct error_key {
    u32 command;
    u32 error;
};

TASK_STORAGE(bpf_pending, u32);
PERCPU_HASH(bpf_calls_total, struct call_key, 64);
PERCPU_HASH(bpf_call_errors_total, struct error_key, 512);

#define SINGLE_VALUE(name)                  \
    struct {                                \
        __uint(type, BPF_MAP_TYPE_ARRAY);   \
        __uint(max_entries, 1);             \
        __type(key, u32);                   \
        __type(value, u64);                 \
    } name SEC(".maps")

SINGLE_VALUE(bpf_jit_bytes);
SINGLE_VALUE(bpf_jit_limit_bytes);

enum { LOST_CALL, LOST_ERROR, LOST_KINDS };

PERCPU_ARRAY(bpf_lost_total, LOST_KINDS);

static __always_inline void keep(void *map, const void *address)
{
    u32 zero = 0;
    u64 *value = bpf_map_lookup_elem(map, &zero);

    if (value && address)
        bpf_probe_read_kernel(value, sizeof(*value), address);
}

SEC("tp/syscalls/sys_enter_bpf")
int bpf_enter(struct syscall_enter *ctx)
{
    u32 *command = task_value(&bpf_pending, BPF_LOCAL_STORAGE_GET_F_CREATE);

    keep(&bpf_jit_bytes, &bpf_jit_current);
    keep(&bpf_jit_limit_bytes, &bpf_jit_limit);
    if (command)
        *command = ctx->args[0] + 1; /* 0: none is pending */
    else
        array_add(&bpf_lost_total, LOST_CALL, 1);
    return 0;
}

SEC("tp/syscalls/sys_exit_bpf")
int bpf_exit(struct syscall_exit *ctx)
{
    u32 *command = task_value(&bpf_pending, 0);
    struct error_key error = {};
    struct call_key key = {};

    if (!command || !*command)
        return 0;
    key.command = error.command = *command - 1;
    *command = 0;
    if (!hash_add(&bpf_calls_total, &key, 1))
        array_add(&bpf_lost_total, LOST_CALL, 1);
    if (ctx->ret < 0) {
        error.error = -ctx->ret;
        if (!hash_add(&bpf_call_errors_total, &error, 1))
            array_add(&bpf_lost_total, LOST_ERROR, 1);
    }
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
