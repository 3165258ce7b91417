/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Why the kernel drops packets. The numbers of these reasons differ from one kernel to the next; their names do not. So this
 * header has numbers of its own, which YAML files name, and what this kernel's numbers are is looked up in its BTF when the program is loaded.
 */
#pragma once

#include "network.bpf.h"

#define DROP_REASONS(X) \
    X(NOT_SPECIFIED) X(NO_SOCKET) X(SOCKET_CLOSE) X(SOCKET_FILTER) X(SOCKET_RCVBUFF) X(UNIX_DISCONNECT) X(UNIX_SKIP_OOB)   \
    X(PKT_TOO_SMALL) X(TCP_CSUM) X(UDP_CSUM) X(NETFILTER_DROP) X(OTHERHOST) X(IP_CSUM) X(IP_INHDR) X(IP_RPFILTER)          \
    X(UNICAST_IN_L2_MULTICAST) X(XFRM_POLICY) X(IP_NOPROTO) X(PROTO_MEM) X(TCP_AUTH_HDR) X(TCP_MD5NOTFOUND)                \
    X(TCP_MD5UNEXPECTED) X(TCP_MD5FAILURE) X(TCP_AONOTFOUND) X(TCP_AOUNEXPECTED) X(TCP_AOKEYNOTFOUND) X(TCP_AOFAILURE)     \
    X(SOCKET_BACKLOG) X(TCP_FLAGS) X(TCP_ABORT_ON_DATA) X(TCP_ZEROWINDOW) X(TCP_OLD_DATA) X(TCP_OVERWINDOW)                \
    X(TCP_OFOMERGE) X(TCP_RFC7323_PAWS) X(TCP_RFC7323_PAWS_ACK) X(TCP_RFC7323_TW_PAWS) X(TCP_RFC7323_TSECR)                \
    X(TCP_LISTEN_OVERFLOW) X(TCP_OLD_SEQUENCE) X(TCP_INVALID_SEQUENCE) X(TCP_INVALID_END_SEQUENCE)                         \
    X(TCP_INVALID_ACK_SEQUENCE) X(TCP_RESET) X(TCP_INVALID_SYN) X(TCP_CLOSE) X(TCP_FASTOPEN) X(TCP_OLD_ACK)                \
    X(TCP_TOO_OLD_ACK) X(TCP_ACK_UNSENT_DATA) X(TCP_OFO_QUEUE_PRUNE) X(TCP_OFO_DROP) X(IP_OUTNOROUTES)                     \
    X(BPF_CGROUP_EGRESS) X(IPV6DISABLED) X(NEIGH_CREATEFAIL) X(NEIGH_FAILED) X(NEIGH_QUEUEFULL) X(NEIGH_DEAD)              \
    X(NEIGH_HH_FILLFAIL) X(TC_EGRESS) X(SECURITY_HOOK) X(QDISC_DROP) X(QDISC_OVERLIMIT) X(QDISC_CONGESTED) X(CAKE_FLOOD)   \
    X(FQ_BAND_LIMIT) X(FQ_HORIZON_LIMIT) X(FQ_FLOW_LIMIT) X(CPU_BACKLOG) X(XDP) X(TC_INGRESS) X(UNHANDLED_PROTO)           \
    X(SKB_CSUM) X(SKB_GSO_SEG) X(SKB_UCOPY_FAULT) X(DEV_HDR) X(DEV_READY) X(FULL_RING) X(NOMEM) X(HDR_TRUNC) X(TAP_FILTER) \
    X(TAP_TXFILTER) X(ICMP_CSUM) X(INVALID_PROTO) X(IP_INADDRERRORS) X(IP_INNOROUTES) X(IP_LOCAL_SOURCE)                   \
    X(IP_INVALID_SOURCE) X(IP_LOCALNET) X(IP_INVALID_DEST) X(PKT_TOO_BIG) X(DUP_FRAG) X(FRAG_REASM_TIMEOUT)                \
    X(FRAG_TOO_FAR) X(TCP_MINTTL) X(IPV6_BAD_EXTHDR) X(IPV6_NDISC_FRAG) X(IPV6_NDISC_HOP_LIMIT) X(IPV6_NDISC_BAD_CODE)     \
    X(IPV6_NDISC_BAD_OPTIONS) X(IPV6_NDISC_NS_OTHERHOST) X(QUEUE_PURGE) X(TC_COOKIE_ERROR) X(PACKET_SOCK_ERROR)            \
    X(TC_CHAIN_NOTFOUND) X(TC_RECLASSIFY_LOOP) X(VXLAN_INVALID_HDR) X(VXLAN_VNI_NOT_FOUND) X(MAC_INVALID_SOURCE)           \
    X(VXLAN_ENTRY_EXISTS) X(NO_TX_TARGET) X(IP_TUNNEL_ECN) X(TUNNEL_TXINFO) X(LOCAL_MAC) X(ARP_PVLAN_DISABLE)              \
    X(MAC_IEEE_MAC_CONTROL) X(BRIDGE_INGRESS_STP_STATE) X(CAN_RX_INVALID_FRAME) X(CANFD_RX_INVALID_FRAME)                  \
    X(CANXL_RX_INVALID_FRAME) X(PFMEMALLOC) X(DUALPI2_STEP_DROP) X(PSP_INPUT) X(PSP_OUTPUT) X(RECURSION_LIMIT)            

/* 0 is a reason that is not on the list. */
enum skb_drop_reason {
    DROP_REASON_OTHER,
#define X(name) SKB_DROP_REASON_##name,
    DROP_REASONS(X)
#undef X
};

#define REASONS_CACHED 256

/* Our number + 1 for each of the kernel's, once it has been seen. */
static u8 drop_reasons_seen[REASONS_CACHED];

/* Whether the kernel's number stands for the reason of that name; no number does where the kernel does not know it. */
#define is_drop_reason(number, name)                                                                                         \
    (bpf_core_enum_value_exists(enum skb_drop_reason, SKB_DROP_REASON_##name) &&                                             \
     (number) == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_##name))

static __always_inline u32 find_drop_reason(u32 number)
{
#define X(name)                                                                                                              \
    if (is_drop_reason(number, name))                                                                                        \
        return SKB_DROP_REASON_##name;
    DROP_REASONS(X)
#undef X
    return DROP_REASON_OTHER;
}

/* Our number for the kernel's. */
static __always_inline u32 drop_reason(u32 number)
{
    u32 found, slot = number;

    if (number >= REASONS_CACHED)
        return DROP_REASON_OTHER;
    asm volatile("" : "+r"(slot)); /* or else the compiler leaves out the bound that the verifier wants to see */
    slot &= REASONS_CACHED - 1;
    if (drop_reasons_seen[slot])
        return drop_reasons_seen[slot] - 1;
    found = find_drop_reason(number);
    drop_reasons_seen[slot] = found + 1;
    return found;
}
