/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Counting, and histograms as the exporter reads them: the last part of a key is the bucket, key `max + 1` is the sum.
 */
#pragma once

#include "kernel.bpf.h"

/* Latencies are kept in nanoseconds. Bucket i holds values up to 2^i: 64 ns ... 2^40 ns, which is 18 minutes. */
#define LATENCY_MIN 6
#define LATENCY_MAX 40
#define LATENCY_SUM (LATENCY_MAX + 1)
/* Entries of an array with one key a slot: 0 ... LATENCY_SUM. */
#define LATENCY_SLOTS (LATENCY_MAX + 2)

/* floor(log2(v)), and 0 for 0 */
static __always_inline u32 log2_u64(u64 v)
{
    u32 r = 0;

#pragma unroll
    for (int shift = 32; shift > 0; shift >>= 1) {
        if (v >> shift) {
            v >>= shift;
            r += shift;
        }
    }
    return r;
}

/* The exp2 bucket of a value: the smallest i with v <= 2^i, held between min and max. */
static __always_inline u32 exp2_bucket(u64 v, u32 min, u32 max)
{
    u32 b = log2_u64(v);

    if (v & (v - 1))
        b++;
    return b < min ? min : b > max ? max : b;
}

static __always_inline u32 latency_bucket(u64 ns)
{
    return exp2_bucket(ns, LATENCY_MIN, LATENCY_MAX);
}

/* The bucket of an exp2zero histogram: 0 for 0, otherwise the smallest i with v <= 2^(i - 1), up to max. */
static __always_inline u32 exp2zero_bucket(u64 v, u32 max)
{
    return v ? exp2_bucket(v, 0, max - 1) + 1 : 0;
}

/* A counter or histogram that each CPU keeps for itself: by a key, or by a small number. */
#define PERCPU_HASH(name, of, entries)            \
    struct {                                      \
        __uint(type, BPF_MAP_TYPE_PERCPU_HASH);   \
        __uint(max_entries, entries);             \
        __type(key, of);                          \
        __type(value, u64);                       \
    } name SEC(".maps")

#define PERCPU_ARRAY(name, entries)               \
    struct {                                      \
        __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);  \
        __uint(max_entries, entries);             \
        __type(key, u32);                         \
        __type(value, u64);                       \
    } name SEC(".maps")

/* Adds to a per-CPU array: no lock, no atomic. */
static __always_inline void array_add(void *map, u32 key, u64 n)
{
    u64 *value = bpf_map_lookup_elem(map, &key);

    if (value)
        *value += n;
}

/* Adds to a histogram that is a per-CPU array. */
static __always_inline void array_observe(void *map, u32 bucket, u32 sum, u64 value)
{
    array_add(map, bucket, 1);
    array_add(map, sum, value);
}

/* The value of a key in a per-CPU hash, which is made at its first use; NULL when the map is full. */
static __always_inline u64 *hash_value(void *map, const void *key)
{
    u64 *value = bpf_map_lookup_elem(map, key), zero = 0;

    if (value)
        return value;
    /* Another CPU may be first; then its entry is the one to use. */
    bpf_map_update_elem(map, key, &zero, BPF_NOEXIST);
    return bpf_map_lookup_elem(map, key);
}

/* Adds to a per-CPU hash. False when the map is full: the caller counts the loss. */
static __always_inline int hash_add(void *map, const void *key, u64 n)
{
    u64 *value = hash_value(map, key);

    if (!value)
        return 0;
    *value += n;
    return 1;
}

/* Adds to a histogram that is a per-CPU hash; `part` is where the bucket stands in `key`. False when the map is full, and then
 * nothing is added: what is counted is always in the sum, too. */
static __always_inline int hash_observe(void *map, const void *key, u32 *part, u32 bucket, u32 sum, u64 value)
{
    u64 *count, *total;

    *part = bucket;
    count = hash_value(map, key);
    *part = sum;
    total = hash_value(map, key);
    if (!count || !total)
        return 0;
    *count += 1;
    *total += value;
    return 1;
}
