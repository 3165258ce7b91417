/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Waiting for locks: the kernel's, by their type, and those of programs, which wait in futex(2).
 *
 * A lock that is free costs nothing here: the kernel's tracepoints stand where somebody has to wait. A task can wait for one lock while
 * an interrupt on its CPU waits for another, hence the lock's address in the key.
 */
#include "tracing.bpf.h"

#define WAITING 16384
#define TYPES 16

/* Of the kernel's LCB_F_*: what a lock is. */
#define TYPE_MASK 63

struct wait_key {
    u64 lock;
    u32 pid;
    u32 cpu; /* only where no task tells two waits apart */
};

struct wait {
    u64 since;
    u32 type;
    u32 unused;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, WAITING);
    __type(key, struct wait_key);
    __type(value, struct wait);
} contention_waiting SEC(".maps");

TASK_STORAGE(futex_started, u64);
PERCPU_HASH(lock_wait_seconds, struct timed_key, TYPES * LATENCY_SLOTS);
PERCPU_HASH(futex_wait_seconds, struct timed_key, 8 * LATENCY_SLOTS);

enum { LOST_WAIT, LOST_LATENCY, LOST_FUTEX, LOST_KINDS };

PERCPU_ARRAY(contention_lost_total, LOST_KINDS);

static __always_inline struct wait_key key_of(void *lock)
{
    struct wait_key key = {.lock = (u64)lock, .pid = bpf_get_current_pid_tgid()};

    if (!key.pid)
        key.cpu = bpf_get_smp_processor_id();
    return key;
}

SEC("tp_btf/contention_begin")
int BPF_PROG(contention_begins, void *lock, unsigned int flags)
{
    struct wait_key key = key_of(lock);
    struct wait wait = {.since = bpf_ktime_get_ns(), .type = flags & TYPE_MASK};

    /* A mutex that is spun for first begins twice; it is one wait. */
    if (bpf_map_lookup_elem(&contention_waiting, &key))
        return 0;
    if (bpf_map_update_elem(&contention_waiting, &key, &wait, BPF_NOEXIST))
        array_add(&contention_lost_total, LOST_WAIT, 1);
    return 0;
}

SEC("tp_btf/contention_end")
int BPF_PROG(contention_ends, void *lock)
{
    struct wait_key key = key_of(lock);
    struct wait *wait = bpf_map_lookup_elem(&contention_waiting, &key);

    if (!wait)
        return 0;
    if (!timed_add(&lock_wait_seconds, wait->type, bpf_ktime_get_ns() - wait->since))
        array_add(&contention_lost_total, LOST_LATENCY, 1);
    bpf_map_delete_elem(&contention_waiting, &key);
    return 0;
}

/* Of futex(2): FUTEX_WAIT, FUTEX_LOCK_PI, FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_LOCK_PI2. */
#define COMMAND_MASK 127
#define WAITS (1u << 0 | 1u << 6 | 1u << 9 | 1u << 11 | 1u << 13)

SEC("tp/syscalls/sys_enter_futex")
int futex_begins(struct syscall_enter *ctx)
{
    u32 command = ctx->args[1] & COMMAND_MASK;
    u64 *started;

    if (command > 31 || !(WAITS >> command & 1) || !counted_task())
        return 0;
    started = task_value(&futex_started, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (started)
        *started = bpf_ktime_get_ns();
    else
        array_add(&contention_lost_total, LOST_FUTEX, 1);
    return 0;
}

SEC("tp/syscalls/sys_exit_futex")
int futex_ends(struct syscall_exit *ctx)
{
    u64 took = elapsed(task_value(&futex_started, 0));

    if (took && !timed_add(&futex_wait_seconds, ctx->ret < 0 ? -ctx->ret : 0, took))
        array_add(&contention_lost_total, LOST_FUTEX, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
