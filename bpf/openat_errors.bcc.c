// SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
//
// Calls of openat(2) that failed, by errno: a program that is compiled on the node, by BCC. It wants python3-bpfcc and the
// headers of the running kernel there; programs that come as objects want neither.

BPF_HASH(openat_errors_total, u64, u64, 256);

TRACEPOINT_PROBE(syscalls, sys_exit_openat)
{
    u64 error;

    if (args->ret >= 0)
        return 0;
    error = -args->ret;
    openat_errors_total.increment(error);
    return 0;
}
