/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Maps for scripts/bench-exporter, filled from outside in the same way whoever loaded them: each call of a system call that no
 * kernel has adds one entry (number NEW_COUNTER) or one whole histogram (NEW_HISTOGRAM).
 */
#include "maps.bpf.h"

#define NEW_COUNTER 20261128
#define NEW_HISTOGRAM 20261129

struct counter_key {
    u64 client;
    u32 operation;
    u32 pad;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 131072);
    __type(key, struct counter_key);
    __type(value, u64);
} series_operations_total SEC(".maps");

struct histogram_key {
    u32 client;
    u32 bucket;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
    __uint(max_entries, 131072);
    __type(key, struct histogram_key);
    __type(value, u64);
} series_latency_seconds SEC(".maps");

u32 counters = 0;
u32 histograms = 0;

SEC("raw_tp/sys_enter")
int series_fill(struct bpf_raw_tracepoint_args *ctx)
{
    if (ctx->args[1] == NEW_COUNTER) {
        u32 n = counters++;
        struct counter_key key = {.client = n / 8, .operation = n % 8};
        u64 value = 1000003ULL * (n + 1);

        bpf_map_update_elem(&series_operations_total, &key, &value, BPF_ANY);
    } else if (ctx->args[1] == NEW_HISTOGRAM) {
        u32 n = histograms++;

        for (u32 i = LATENCY_MIN; i <= LATENCY_SUM; i++) {
            struct histogram_key key = {.client = n, .bucket = i};

            hash_add(&series_latency_seconds, &key, 1000003ULL * i + n);
        }
    }
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
