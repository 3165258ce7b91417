/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Operations of filesystems in user space, and the requests that their servers get: an operation's time less its requests' is the
 * kernel's own. Requests that nobody waits for (read-ahead, write-back) are not timed.
 */
#include "filesystem.bpf.h"

FILESYSTEM(fuse);

OPERATION(READ, fuse_file_read_iter, s64)
OPERATION(WRITE, fuse_file_write_iter, s64)
OPERATION(OPEN, fuse_open, s32)
OPERATION(SYNC, fuse_fsync, s32)
OPERATION(GETATTR, fuse_getattr, s32)
OPERATION(SETATTR, fuse_setattr, s32)
OPERATION(LOOKUP, fuse_lookup, s64)
OPERATION(CREATE, fuse_create, s32)
OPERATION(CREATE, fuse_atomic_open, s32)
OPERATION(UNLINK, fuse_unlink, s32)
OPERATION(RENAME, fuse_rename2, s32)
OPERATION(READDIR, fuse_readdir, s32)

/* What a request is about (FUSE_LOOKUP is 1). */
struct fuse_args {
    u32 opcode;
} core;

struct fuse_req {
    struct fuse_args *args;
} core;

struct request {
    u64 at;
    u32 opcode;
};

#define OPCODES 64

TASK_STORAGE(fuse_request_started, struct request);
PERCPU_HASH(fuse_request_seconds, struct timed_key, OPCODES * 16);

/* The server has been told, and whoever asks waits for its answer. What calls this has another name in each kernel. */
SEC("fentry/request_wait_answer")
int BPF_PROG(fuse_request_begins, struct fuse_req *asked)
{
    struct request *request;

    if (!counted_task())
        return 0;
    request = task_value(&fuse_request_started, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (request) {
        request->opcode = asked->args->opcode;
        request->at = bpf_ktime_get_ns();
    } else {
        array_add(&fuse_lost_total, LOST_START, 1);
    }
    return 0;
}

SEC("fexit/request_wait_answer")
int BPF_PROG(fuse_request_ends)
{
    struct request *request = task_value(&fuse_request_started, 0);
    u64 took = request ? elapsed(&request->at) : 0;

    if (took && !timed_add(&fuse_request_seconds, request->opcode, took))
        array_add(&fuse_lost_total, LOST_LATENCY, 1);
    return 0;
}
