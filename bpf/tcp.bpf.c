/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * TCP as both ends of a connection live it: segments sent again, round trip times, and how long connecting takes.
 *
 * Every hook is a tracepoint of the kernel. When a connection attempt began is kept with its socket, so that no table of
 * attempts can fill up. `port` is that of the service, see service_port().
 */
#include "network.bpf.h"

#define PORTS 512
/* Round trip times in nanoseconds: 1 us ... 17 s. */
#define RTT_MIN 10
#define RTT_MAX 34
#define RTT_SUM (RTT_MAX + 1)
/* The word for an attempt that its own side gave up. No errno is that large. */
#define RESULT_CLOSED 1000

enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT = 2, TCP_SYN_RECV = 3, TCP_CLOSE = 7 };

struct tcp_sock {
    u32 srtt_us;
} core;

struct retransmit_key {
    u32 port;
    u32 state;
};

struct connect_key {
    u32 port;
    u32 result;
};

PERCPU_HASH(tcp_retransmits_total, struct retransmit_key, PORTS * 2);

/* Many ports have few connections, whose round trip times lie close together. */
PERCPU_HASH(tcp_rtt_seconds, struct port_key, PORTS * 12);

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, u64);
} tcp_connect_begun SEC(".maps");

PERCPU_HASH(tcp_connects_total, struct connect_key, PORTS * 2);

PERCPU_HASH(tcp_connect_seconds, struct port_key, PORTS * 12);

enum { LOST_RETRANSMIT, LOST_RTT, LOST_CONNECT_BEGIN, LOST_CONNECT, LOST_CONNECT_TIME, LOST_KINDS };

PERCPU_ARRAY(tcp_lost_total, LOST_KINDS);

static __always_inline void lost(u32 what)
{
    array_add(&tcp_lost_total, what, 1);
}

static __always_inline void observe(void *map, u32 port, u64 ns, u32 max, u32 what)
{
    struct port_key key = {.port = port};

    if (!hash_observe(map, &key, &key.bucket, exp2_bucket(ns, RTT_MIN, max), max + 1, ns))
        lost(what);
}

SEC("tp_btf/tcp_retransmit_skb")
int tcp_retransmit(u64 *ctx)
{
    const struct sock *sk = (const void *)ctx[0];
    struct retransmit_key key = {.port = service_port(sk), .state = sk->__sk_common.skc_state};

    if (!hash_add(&tcp_retransmits_total, &key, 1))
        lost(LOST_RETRANSMIT);
    return 0;
}

/* The answer to a SYN, sent again: there is no connection yet, so the socket is the listening one. */
SEC("tp_btf/tcp_retransmit_synack")
int tcp_retransmit_answer(u64 *ctx)
{
    const struct sock *sk = (const void *)ctx[0];
    struct retransmit_key key = {.port = sk->__sk_common.skc_num, .state = TCP_SYN_RECV};

    if (!hash_add(&tcp_retransmits_total, &key, 1))
        lost(LOST_RETRANSMIT);
    return 0;
}

/* A segment arrives on a connection. The kernel keeps the smoothed time in eighths of a microsecond; 0: not measured yet. */
SEC("tp_btf/tcp_probe")
int tcp_segment(u64 *ctx)
{
    struct sock *sk = (void *)ctx[0];
    struct tcp_sock *tp = (void *)bpf_skc_to_tcp_sock(sk);
    u64 rtt;

    if (!tp)
        return 0;
    rtt = tp->srtt_us * 125ULL;
    if (rtt)
        observe(&tcp_rtt_seconds, service_port(sk), rtt, RTT_MAX, LOST_RTT);
    return 0;
}

static __always_inline void connect_ended(struct sock *sk, u64 took, int state)
{
    struct connect_key key = {.port = bpf_ntohs(sk->__sk_common.skc_dport)};

    if (state == TCP_ESTABLISHED)
        observe(&tcp_connect_seconds, key.port, took, LATENCY_MAX, LOST_CONNECT_TIME);
    else
        key.result = sk->sk_err ? sk->sk_err : RESULT_CLOSED;
    if (!hash_add(&tcp_connects_total, &key, 1))
        lost(LOST_CONNECT);
}

SEC("tp_btf/inet_sock_set_state")
int tcp_state(u64 *ctx)
{
    struct sock *sk = (void *)ctx[0];
    int before = ctx[1], after = ctx[2];
    u64 *begun, took;

    if (sk->sk_protocol != PROTOCOL_TCP)
        return 0;
    if (after == TCP_SYN_SENT) {
        begun = bpf_sk_storage_get(&tcp_connect_begun, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
        if (begun)
            *begun = bpf_ktime_get_ns();
        else
            lost(LOST_CONNECT_BEGIN);
    } else if (before == TCP_SYN_SENT && (after == TCP_ESTABLISHED || after == TCP_CLOSE)) {
        took = elapsed(bpf_sk_storage_get(&tcp_connect_begun, sk, 0, 0));
        if (took)
            connect_ended(sk, took, after);
    }
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
