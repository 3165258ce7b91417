/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * What waits at the ends of TCP: the two queues of a listening socket, and the room that a receiver offers.
 *
 * A listener's queues are looked at whenever a SYN arrives, and once more when a handshake is to be completed. The functions are
 * hooked directly, since the kernel has no tracepoints there.
 */
#include "network.bpf.h"

#define PORTS 512
#define LENGTH_MAX 17 /* exp2zero: 0, 1, 2, 4 ... 65536 connections */
#define WINDOW_MAX 32 /* exp2zero: 0, 1 ... 2^31 bytes */

struct atomic {
    int counter;
} core;

struct request_sock_queue {
    struct atomic qlen;
} core;

struct inet_connection_sock {
    struct request_sock_queue icsk_accept_queue;
} core;

struct full_key {
    u32 port;
    u16 queue;
    u16 segment;
};

enum { QUEUE_SYN, QUEUE_ACCEPT };
enum { SEGMENT_SYN, SEGMENT_ACK };

PERCPU_HASH(tcp_syn_queue_length, struct port_key, PORTS * 8);

PERCPU_HASH(tcp_accept_queue_length, struct port_key, PORTS * 8);

PERCPU_HASH(tcp_listen_queue_full_total, struct full_key, PORTS * 2);

PERCPU_HASH(tcp_receive_window_bytes, struct port_key, PORTS * 12);

enum { LOST_SYN_QUEUE, LOST_ACCEPT_QUEUE, LOST_FULL, LOST_WINDOW, LOST_KINDS };

PERCPU_ARRAY(tcp_queues_lost_total, LOST_KINDS);

static __always_inline void lost(u32 what)
{
    array_add(&tcp_queues_lost_total, what, 1);
}

static __always_inline void observe(void *map, u32 port, u64 value, u32 max, u32 what)
{
    struct port_key key = {.port = port};

    if (!hash_observe(map, &key, &key.bucket, exp2zero_bucket(value, max), max + 1, value))
        lost(what);
}

static __always_inline void full(u32 port, u16 queue, u16 segment)
{
    struct full_key key = {.port = port, .queue = queue, .segment = segment};

    if (!hash_add(&tcp_listen_queue_full_total, &key, 1))
        lost(LOST_FULL);
}

/* As the kernel says it: one more than the backlog may wait. */
static __always_inline int accept_queue_is_full(const struct sock *sk)
{
    return sk->sk_ack_backlog > sk->sk_max_ack_backlog;
}

SEC("fentry/tcp_conn_request")
int tcp_syn_arrives(u64 *ctx)
{
    const struct sock *sk = (const void *)ctx[2];
    u32 port = sk->__sk_common.skc_num, half_open = BPF_CORE_READ((const struct inet_connection_sock *)sk, icsk_accept_queue.qlen.counter);

    observe(&tcp_syn_queue_length, port, half_open, LENGTH_MAX, LOST_SYN_QUEUE);
    observe(&tcp_accept_queue_length, port, sk->sk_ack_backlog, LENGTH_MAX, LOST_ACCEPT_QUEUE);
    if (half_open >= sk->sk_max_ack_backlog)
        full(port, QUEUE_SYN, SEGMENT_SYN);
    if (accept_queue_is_full(sk))
        full(port, QUEUE_ACCEPT, SEGMENT_SYN);
    return 0;
}

static __always_inline void handshake_ends(const struct sock *sk)
{
    if (accept_queue_is_full(sk))
        full(sk->__sk_common.skc_num, QUEUE_ACCEPT, SEGMENT_ACK);
}

SEC("fentry/tcp_v4_syn_recv_sock")
int tcp_handshake_ipv4(u64 *ctx)
{
    handshake_ends((const void *)ctx[0]);
    return 0;
}

/* A listener of IPv6 may be asked over IPv4: then the function above is called from this one. */
SEC("fentry/tcp_v6_syn_recv_sock")
int tcp_handshake_ipv6(u64 *ctx)
{
    const struct sk_buff *skb = (const void *)ctx[1];

    if (skb->protocol != bpf_htons(ETHERTYPE_IPV4))
        handshake_ends((const void *)ctx[0]);
    return 0;
}

/* The kernel works out how much more a connection may be sent, for each segment that leaves. */
SEC("fexit/__tcp_select_window")
int tcp_window(u64 *ctx)
{
    observe(&tcp_receive_window_bytes, service_port((const void *)ctx[0]), (u32)ctx[1], WINDOW_MAX, LOST_WINDOW);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
