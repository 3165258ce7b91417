/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * For tests: one program at all tracepoints that match, getpgid(2) and getppid(2).
 */
#include "maps.bpf.h"

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
    __uint(max_entries, 64);
    __type(key, u64);
    __type(value, u64);
} pattern_calls_total SEC(".maps");

SEC("tp/syscalls/sys_enter_getp?id")
int pattern(struct syscall_enter *ctx)
{
    u64 nr = *(u32 *)&ctx->nr; /* the kernel has no more of it where a call has no arguments */

    hash_add(&pattern_calls_total, &nr, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
