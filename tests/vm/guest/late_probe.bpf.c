/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * At a function of a module that is not loaded when the program is: found when it is attached.
 */
#include "maps.bpf.h"

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64);
} late_probe_total SEC(".maps");

SEC("kprobe/dummy_xmit")
int late_probe(void *ctx)
{
    array_add(&late_probe_total, 0, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
