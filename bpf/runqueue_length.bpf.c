/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * How many tasks each CPU had to run, the running one among them, looked at 99 times a second by the kernel's own clock event: no
 * switch between tasks costs anything.
 */
#include "maps.bpf.h"

#include <bpf/bpf_core_read.h>

/* 0, 1, ... 64 tasks, and the sum. More count as 64. */
#define LONGEST 64

struct rq {
    unsigned int nr_running;
} core;

extern const struct rq runqueues __ksym;

PERCPU_ARRAY(runqueue_length, LONGEST + 2);

SEC("perf_event/type=1,config=0,frequency=99")
int runqueue_sample(void *ctx)
{
    const struct rq *rq = bpf_this_cpu_ptr(&runqueues);
    u32 length = rq->nr_running;

    array_observe(&runqueue_length, length < LONGEST ? length : LONGEST, LONGEST + 1, length);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
