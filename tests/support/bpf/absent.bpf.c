/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * For tests: at the entry of a function that no kernel and no module has. It does not even load.
 */
#include "maps.bpf.h"

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64);
} absent_total SEC(".maps");

SEC("fentry/g5kdeploy_never_there")
int absent(void *ctx)
{
    array_add(&absent_total, 0, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
