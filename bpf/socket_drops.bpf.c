/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * What sockets could not take: packets for which there was no room in a receive buffer, in a TCP socket's backlog, or in the memory that a
 * protocol may use; and how often a socket met the limit of its protocol's memory.
 */
#include "drop_reason.bpf.h"

#define PORTS 2048
#define NO_IP 0xffff
#define ENOMEM 12

enum { RECEIVE_BUFFER, MEMORY, BACKLOG, LIMIT_SEND, LIMIT_RECEIVE };

struct drop_key {
    u32 port;
    u16 protocol;
    u16 what;
};

PERCPU_HASH(socket_drops_total, struct drop_key, PORTS);

PERCPU_HASH(socket_memory_limits_total, struct drop_key, PORTS);

enum { LOST_DROP, LOST_LIMIT, LOST_KINDS };

PERCPU_ARRAY(socket_drops_lost_total, LOST_KINDS);

static __always_inline struct drop_key key_of(const struct sock *sk, u16 what)
{
    struct drop_key key = {.what = what, .protocol = NO_IP};
    u16 family = sk->__sk_common.skc_family;

    if (family == AF_INET || family == AF_INET6) {
        key.protocol = sk->sk_protocol;
        if (key.protocol == PROTOCOL_TCP || key.protocol == PROTOCOL_UDP)
            key.port = sk->__sk_common.skc_num;
    }
    return key;
}

static __always_inline void dropped(const struct drop_key *key)
{
    if (!hash_add(&socket_drops_total, key, 1))
        array_add(&socket_drops_lost_total, LOST_DROP, 1);
}

/* Raw sockets, and those of ping. */
SEC("tp_btf/sock_rcvqueue_full")
int socket_queue_full(u64 *ctx)
{
    struct drop_key key = key_of((const void *)ctx[0], RECEIVE_BUFFER);

    dropped(&key);
    return 0;
}

SEC("tp_btf/udp_fail_queue_rcv_skb")
int socket_udp_refused(u64 *ctx)
{
    struct drop_key key = key_of((const void *)ctx[1], (int)ctx[0] == -ENOMEM ? RECEIVE_BUFFER : MEMORY);

    dropped(&key);
    return 0;
}

/* A TCP socket has no tracepoint for it, but the packet says why it is dropped. */
SEC("tp_btf/kfree_skb")
int socket_tcp_dropped(u64 *ctx)
{
    u32 reason = ctx[2];
    struct drop_key key = {.protocol = PROTOCOL_TCP};
    struct flow flow;

    if (is_drop_reason(reason, SOCKET_BACKLOG))
        key.what = BACKLOG;
    else if (is_drop_reason(reason, PROTO_MEM))
        key.what = MEMORY;
    else if (is_drop_reason(reason, SOCKET_RCVBUFF))
        key.what = RECEIVE_BUFFER;
    else
        return 0;
    flow = read_flow((const void *)ctx[0]);
    key.port = flow.port;
    if (flow.protocol == PROTOCOL_TCP)
        dropped(&key);
    return 0;
}

SEC("tp_btf/sock_exceed_buf_limit")
int socket_limited(u64 *ctx)
{
    struct drop_key key = key_of((const void *)ctx[0], (int)ctx[3] ? LIMIT_RECEIVE : LIMIT_SEND);

    if (!hash_add(&socket_memory_limits_total, &key, 1))
        array_add(&socket_drops_lost_total, LOST_LIMIT, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
