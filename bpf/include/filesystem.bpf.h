/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * How long the operations of a filesystem take, as its callers see it: its own functions, on their way in and out.
 *
 *     OPERATION(READ, ext4_file_read_iter, s64)      one line an operation, after FILESYSTEM(ext4)
 *
 * An operation that contains another of the same kind (a file in this filesystem that is a disk for it) is timed from the inner
 * one's beginning. The filesystem's module has to be there: the exporter waits for it.
 */
#pragma once

#include "tracing.bpf.h"

enum { READ, WRITE, OPEN, SYNC, GETATTR, SETATTR, LOOKUP, CREATE, UNLINK, RENAME, READDIR, OPERATIONS };

/* EIOCBQUEUED, which the kernel keeps to itself: the rest is done while the caller goes on. */
#define QUEUED 529

struct error_key {
    u32 operation;
    u32 error;
};

enum { LOST_START, LOST_LATENCY, LOST_ERROR, LOST_KINDS };

struct started {
    u64 at[OPERATIONS];
};

#define FILESYSTEM(name)                                                                   \
    TASK_STORAGE(name##_started, struct started);                                          \
    PERCPU_HASH(name##_latency_seconds, struct timed_key, OPERATIONS * LATENCY_SLOTS);     \
    PERCPU_HASH(name##_errors_total, struct error_key, 512);                               \
    PERCPU_ARRAY(name##_lost_total, LOST_KINDS);                                           \
                                                                                           \
    static __always_inline int begin(u32 operation)                                        \
    {                                                                                      \
        struct started *started;                                                           \
                                                                                           \
        if (!counted_task())                                                               \
            return 0;                                                                      \
        started = task_value(&name##_started, BPF_LOCAL_STORAGE_GET_F_CREATE);             \
        if (started)                                                                       \
            started->at[operation] = bpf_ktime_get_ns();                                   \
        else                                                                               \
            array_add(&name##_lost_total, LOST_START, 1);                                  \
        return 0;                                                                          \
    }                                                                                      \
                                                                                           \
    /* A function of its own: all operations together stay as small as other programs. */  \
    static __noinline int end(u32 operation, s64 result)                                   \
    {                                                                                      \
        struct started *started = task_value(&name##_started, 0);                          \
        struct error_key error = {.operation = operation, .error = -result};               \
        u64 took = started ? elapsed(&started->at[operation]) : 0;                         \
                                                                                           \
        if (!took)                                                                         \
            return 0;                                                                      \
        if (!timed_add(&name##_latency_seconds, operation, took))                          \
            array_add(&name##_lost_total, LOST_LATENCY, 1);                                \
        if (result < 0 && result >= -4095 && result != -QUEUED &&                          \
            !hash_add(&name##_errors_total, &error, 1))                                    \
            array_add(&name##_lost_total, LOST_ERROR, 1);                                  \
        return 0;                                                                          \
    }                                                                                      \
                                                                                           \
    char LICENSE[] SEC("license") = "GPL"

/* `type`: what the function returns, s32 for an int (the upper half of the register means nothing then) and s64 for a size or a pointer. */
#define OPERATION(operation, function, type)                                               \
    SEC("fentry/" #function) int enter_##function(u64 *ctx)                                \
    {                                                                                      \
        return begin(operation);                                                           \
    }                                                                                      \
    SEC("fexit/" #function) int leave_##function(u64 *ctx)                                 \
    {                                                                                      \
        u64 result = 0;                                                                    \
                                                                                           \
        bpf_get_func_ret(ctx, &result);                                                    \
        return end(operation, (type)result);                                               \
    }
