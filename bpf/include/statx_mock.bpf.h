/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * statx(2) answered by us for one path: every time stamp is the epoch, the size 0, the mode 0777.
 *
 * Two objects are made of this. The stock kernel's lets the call run and rewrites the caller's buffer on the way out. The other
 * one also answers at the entry, on kernels that let a kprobe override a function's return value, so that the file need not
 * exist and the real work is not done; what it could not answer at the entry has its second chance at the exit.
 *
 * It fails open. Unless all 256 bytes were written the caller gets what the kernel says. Wrong arguments are left to the kernel.
 * At the exit the kernel has read the path, so its page is in memory; at the entry it may not be (path_fail, then answered at exit).
 *
 * Only the path as the caller wrote it is compared: no other spelling, no symbolic link, no path relative to another folder.
 * Other doors (stat, newfstatat, io_uring) are not watched. A thread that races may see the true bytes: a demonstration, no guard.
 */
#pragma once

#include "maps.bpf.h"

#define PATH_SIZE 128

const volatile char mock_path[PATH_SIZE] = "/tmp/override";

struct mock_timestamp {
    s64 tv_sec;
    u32 tv_nsec;
    s32 pad;
};

/* The UAPI's struct, all 256 bytes by ourselves: kernels differ in how much of it they know, and all of it is written. */
struct mock_statx {
    u32 stx_mask, stx_blksize;
    u64 stx_attributes;
    u32 stx_nlink, stx_uid, stx_gid;
    u16 stx_mode, spare0;
    u64 stx_ino, stx_size, stx_blocks, stx_attributes_mask;
    struct mock_timestamp stx_atime, stx_btime, stx_ctime, stx_mtime;
    u32 devices[4];
    u64 spare[14];
};
_Static_assert(sizeof(struct mock_statx) == 256, "struct statx is 256 bytes of the UAPI");

#define STATX_BASIC 0x7ffu
#define MOCK_MODE (0100000 | 0777) /* a regular file */
#define MASK_RESERVED 0x80000000u
#define FLAGS_KNOWN 0x7900u /* AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE */
#define FLAGS_SYNC 0x6000u  /* both of AT_STATX_SYNC_TYPE: refused by the kernel */

struct pending {
    u64 started;
    u64 path;
    u64 buffer;
    u32 flags;
    u32 mask;
    u32 answered;
    u32 matched;
};

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct pending);
} statx_mock_pending SEC(".maps");

enum { CALLS, MATCHED, MOCKED, WRITE_FAIL, PATH_FAIL, KERNEL_ERROR, LOST, EVENTS };

PERCPU_ARRAY(statx_mock_total, EVENTS);

PERCPU_ARRAY(statx_mock_latency_seconds, LATENCY_SLOTS);

static __always_inline void count(u32 event)
{
    array_add(&statx_mock_total, event, 1);
}

static __always_inline struct pending *pending(u64 flags)
{
    return bpf_task_storage_get(&statx_mock_pending, bpf_get_current_task_btf(), 0, flags);
}

/* Whether the caller asked for the mocked path: 1 yes, 0 no, negative when its memory could not be read. */
static __always_inline int asked_for_it(const struct pending *p)
{
    char path[PATH_SIZE];
    long n = bpf_probe_read_user_str(path, sizeof(path), (const void *)p->path);

    if (n < 0)
        return -1;
    for (int i = 0; i < PATH_SIZE; i++) {
        if (path[i] != mock_path[i])
            return 0;
        if (!path[i])
            return i > 0;
    }
    return 0; /* cut off: longer than any path that can be mocked */
}

static __always_inline void match(struct pending *p)
{
    if (!p->matched) {
        p->matched = 1;
        count(MATCHED);
    }
}

/* Writes the answer into the caller's buffer; false when that cannot be done, and then nothing of it counts. */
static __always_inline int answer(struct pending *p)
{
    struct mock_statx s = {};

    s.stx_mask = STATX_BASIC;
    s.stx_blksize = 4096;
    s.stx_nlink = 1;
    s.stx_mode = MOCK_MODE;
    if (bpf_probe_write_user((void *)p->buffer, &s, sizeof(s))) {
        count(WRITE_FAIL);
        return 0;
    }
    p->answered = 1;
    count(MOCKED);
    return 1;
}

SEC("tp/syscalls/sys_enter_statx")
int statx_mock_enter(struct syscall_enter *ctx)
{
    struct pending *p;

    if (!counted_task())
        return 0;
    count(CALLS);
    p = pending(BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!p) {
        count(LOST);
        return 0;
    }
    p->path = ctx->args[1];
    p->flags = ctx->args[2];
    p->mask = ctx->args[3];
    p->buffer = ctx->args[4];
    p->answered = 0;
    p->matched = 0;
    p->started = bpf_ktime_get_ns();
    return 0;
}

SEC("tp/syscalls/sys_exit_statx")
int statx_mock_exit(struct syscall_exit *ctx)
{
    struct pending *p = pending(0);
    int asked;
    u64 took;

    if (!p)
        return 0;
    took = elapsed(&p->started);
    if (!took)
        return 0;
    array_observe(&statx_mock_latency_seconds, latency_bucket(took), LATENCY_SUM, took);
    if (p->answered)
        return 0;
    asked = asked_for_it(p);
    if (asked < 0) {
        count(PATH_FAIL);
        return 0;
    }
    if (!asked)
        return 0;
    match(p);
    if (ctx->ret)
        count(KERNEL_ERROR);
    else
        answer(p);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
