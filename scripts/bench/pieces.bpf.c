/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * What the pieces of a program cost: each is done TIMES times in a row, and the least time of that is kept.
 */
#include "tracing.bpf.h"

#define TIMES 200

struct key8 {
    u32 what;
    u32 bucket;
};

struct key16 {
    u64 what;
    u32 bucket;
    u32 padding;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 16);
    __type(key, u32);
    __type(value, u64);
} least SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, u32);
    __type(value, u64);
} coming_and_going SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1024);
    __type(key, u32);
    __type(value, u64);
} places SEC(".maps");

TASK_STORAGE(of_task, u64);
PERCPU_ARRAY(array, 64);
PERCPU_HASH(hash8, struct key8, 64);
PERCPU_HASH(hash16, struct key16, 64);

volatile u64 seen;

static __always_inline void keep(u32 piece, u64 took)
{
    u64 *value = bpf_map_lookup_elem(&least, &piece);

    if (value && (!*value || took < *value))
        *value = took;
}

/* In the order of the programs: the exporter's bench reads the entry of a program's number. */
#define PIECE(number, name, ...)                    \
    SEC("tp/syscalls/sys_enter_statx")              \
    int name(void *ctx)                             \
    {                                               \
        u64 begun = bpf_ktime_get_ns();             \
                                                    \
        for (u32 i = 0; i < TIMES; i++) {           \
            __VA_ARGS__;                            \
            asm volatile("" ::: "memory");          \
        }                                           \
        keep(number, bpf_ktime_get_ns() - begun);   \
        return 0;                                   \
    }

/* The verifier looks at it once, not TIMES times on every path. */
__noinline int bucket_of(u64 value)
{
    return latency_bucket(value);
}

PIECE(0, nothing, seen = i)
PIECE(1, clock, seen = bpf_ktime_get_ns())
PIECE(2, cgroup_id, seen = bpf_get_current_cgroup_id())
PIECE(3, task_storage, u64 *value = task_value(&of_task, BPF_LOCAL_STORAGE_GET_F_CREATE); if (value) *value = i)
PIECE(4, bucket_of_a_time, seen = bucket_of(seen + i * 100))
PIECE(5, percpu_array_add, array_add(&array, i & 63, 1))
PIECE(6, percpu_hash_add_8_bytes, struct key8 key = {.what = 1}; hash_add(&hash8, &key, 1))
PIECE(7, percpu_hash_add_16_bytes, struct key16 key = {.what = 1}; hash_add(&hash16, &key, 1))
PIECE(8, hash_put_found_deleted, u32 key = i; u64 value = i, *found;
      bpf_map_update_elem(&coming_and_going, &key, &value, BPF_ANY);
      found = bpf_map_lookup_elem(&coming_and_going, &key); if (found) seen = *found;
      bpf_map_delete_elem(&coming_and_going, &key))
PIECE(9, place_taken_found_left, u32 key = i; u64 *place = bpf_map_lookup_elem(&places, &key);
      if (place && !__sync_val_compare_and_swap(place, 0, i + 1)) __sync_lock_test_and_set(place, 0))

char LICENSE[] SEC("license") = "GPL";
