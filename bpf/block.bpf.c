/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Requests to block devices: how long they waited to be issued, how long the device took, and how large they were.
 *
 * A request is known by its address while it is with the device. The table has room for more than queues are deep; what finds none is
 * counted as lost.
 */
#include "tracing.bpf.h"

#define DEVICES 64
#define IN_FLIGHT 16384
#define SIZE_MIN 9 /* 512 bytes ... 1 GiB */
#define SIZE_MAX 30

struct gendisk {
    int major;
    int first_minor;
} core;

struct request_queue {
    struct gendisk *disk;
} core;

struct request {
    struct request_queue *q;
    u32 cmd_flags;
    u32 __data_len;
    u64 start_time_ns;
} core;

struct device_key {
    u32 device;
    u32 operation;
};

struct latency_key {
    struct device_key on;
    u32 stage;
    u32 bucket;
};

struct size_key {
    struct device_key on;
    u32 bucket;
};

struct issued {
    u64 at;
    struct device_key on;
};

enum { QUEUE, DEVICE };

enum { LOST_REQUEST, LOST_LATENCY, LOST_SIZE, LOST_KINDS };

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, IN_FLIGHT);
    __type(key, u64);
    __type(value, struct issued);
} block_issued SEC(".maps");

PERCPU_HASH(block_latency_seconds, struct latency_key, DEVICES * 4 * 32);
PERCPU_HASH(block_size_bytes, struct size_key, DEVICES * 2 * 16);
PERCPU_ARRAY(block_lost_total, LOST_KINDS);

static __always_inline void spent(struct latency_key *key, u32 stage, u64 took)
{
    key->stage = stage;
    if (!hash_observe(&block_latency_seconds, key, &key->bucket, latency_bucket(took), LATENCY_SUM, took))
        array_add(&block_lost_total, LOST_LATENCY, 1);
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(block_issue, struct request *request)
{
    struct gendisk *disk = request->q->disk;
    struct latency_key waited = {};
    struct issued issued = {};
    struct size_key size = {};
    u64 key = (u64)request, begun = request->start_time_ns;
    u32 minor, bytes = request->__data_len;

    issued.at = bpf_ktime_get_ns();
    if (disk) {
        minor = disk->first_minor;
        issued.on.device = (minor & 0xff) | (u32)disk->major << 8 | (minor & ~0xffu) << 12;
    }
    issued.on.operation = request->cmd_flags & 0xff;
    if (bpf_map_update_elem(&block_issued, &key, &issued, BPF_ANY))
        array_add(&block_lost_total, LOST_REQUEST, 1);
    waited.on = size.on = issued.on;
    if (begun && begun <= issued.at) /* kept by the kernel unless the device's statistics are switched off */
        spent(&waited, QUEUE, issued.at - begun);
    if (!hash_observe(&block_size_bytes, &size, &size.bucket, exp2_bucket(bytes, SIZE_MIN, SIZE_MAX), SIZE_MAX + 1, bytes))
        array_add(&block_lost_total, LOST_SIZE, 1);
    return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_complete, struct request *request, int error, unsigned int bytes)
{
    u64 key = (u64)request, now = bpf_ktime_get_ns();
    struct issued *issued = bpf_map_lookup_elem(&block_issued, &key);
    struct latency_key took = {};

    if (!issued || bytes < request->__data_len) /* a part of it: the rest is still to come */
        return 0;
    took.on = issued->on;
    spent(&took, DEVICE, now - issued->at);
    bpf_map_delete_elem(&block_issued, &key);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
