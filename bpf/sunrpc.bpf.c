/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Remote procedure calls of this node (NFS's, for one): the three stages of each, what is sent again, what becomes of connections.
 *
 * backlog is the time in the client's own queue, rtt from the last transmission to the reply, execute the whole of it. A busy
 * server shows in rtt, too few slots in backlog. The module sunrpc has to be there: the exporter waits for it.
 */
#include "tracing.bpf.h"

#define PROCEDURES 128

struct rpc_procinfo {
    const char *p_name;
} core;

struct rpc_message {
    const struct rpc_procinfo *rpc_proc;
} core;

struct rpc_program {
    const char *name;
} core;

struct rpc_clnt {
    const struct rpc_program *cl_program;
} core;

struct rpc_task {
    struct rpc_message tk_msg;
    struct rpc_clnt *tk_client;
} core;

struct rpc_rqst {
    struct rpc_task *rq_task;
} core;

struct procedure {
    char program[16];
    char name[24];
};

struct stage_key {
    struct procedure procedure;
    u32 stage;
    u32 bucket;
};

enum { BACKLOG, RTT, EXECUTE };

enum { CONNECT, DISCONNECT, FORCED };

enum { LOST_STAGE, LOST_RETRANSMIT, LOST_KINDS };

/* A procedure seldom uses more than a third of its slots. */
PERCPU_HASH(sunrpc_stage_seconds, struct stage_key, PROCEDURES * 3 * 16);
PERCPU_HASH(sunrpc_retransmits_total, struct procedure, PROCEDURES);
PERCPU_ARRAY(sunrpc_transport_events_total, FORCED + 1);
PERCPU_ARRAY(sunrpc_lost_total, LOST_KINDS);

static __always_inline void named(struct procedure *procedure, const struct rpc_task *task)
{
    const char *program = BPF_CORE_READ(task, tk_client, cl_program, name);
    const char *name = BPF_CORE_READ(task, tk_msg.rpc_proc, p_name);

    bpf_probe_read_kernel_str(procedure->program, sizeof(procedure->program), program);
    bpf_probe_read_kernel_str(procedure->name, sizeof(procedure->name), name);
}

static __always_inline void spent(struct stage_key *key, u32 stage, s64 took)
{
    u64 ns = took < 0 ? 0 : took;

    key->stage = stage;
    if (!hash_observe(&sunrpc_stage_seconds, key, &key->bucket, latency_bucket(ns), LATENCY_SUM, ns))
        array_add(&sunrpc_lost_total, LOST_STAGE, 1);
}

/* What a module's tracepoint hands over could be NULL, for all that newer kernels know. */
SEC("tp_btf/rpc_stats_latency")
int BPF_PROG(sunrpc_ended, const struct rpc_task *task, s64 backlog, s64 rtt, s64 execute)
{
    struct stage_key key = {};

    if (!task)
        return 0;
    named(&key.procedure, task);
    spent(&key, BACKLOG, backlog);
    spent(&key, RTT, rtt);
    spent(&key, EXECUTE, execute);
    return 0;
}

SEC("tp_btf/xprt_retransmit")
int BPF_PROG(sunrpc_retransmitted, const struct rpc_rqst *request)
{
    struct procedure procedure = {};

    if (!request)
        return 0;
    named(&procedure, request->rq_task);
    if (!hash_add(&sunrpc_retransmits_total, &procedure, 1))
        array_add(&sunrpc_lost_total, LOST_RETRANSMIT, 1);
    return 0;
}

SEC("tp_btf/xprt_connect")
int BPF_PROG(sunrpc_connects)
{
    array_add(&sunrpc_transport_events_total, CONNECT, 1);
    return 0;
}

SEC("tp_btf/xprt_disconnect_done")
int BPF_PROG(sunrpc_disconnected)
{
    array_add(&sunrpc_transport_events_total, DISCONNECT, 1);
    return 0;
}

SEC("tp_btf/xprt_disconnect_force")
int BPF_PROG(sunrpc_disconnect_forced)
{
    array_add(&sunrpc_transport_events_total, FORCED, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
