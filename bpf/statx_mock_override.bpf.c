/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * The statx mock for kernels with CONFIG_BPF_KPROBE_OVERRIDE: the call is answered at its entry and never runs.
 */
#include "statx_mock.bpf.h"

/* The tracepoint of the same call has run by now and kept the arguments. It times the call, too: a kretprobe would not fire for
 * an overridden function when this probe happens to stand first in the kernel's list. */
SEC("ksyscall/statx")
int statx_mock_override(void *ctx)
{
    struct pending *p = pending(0);
    int asked;

    if (!p || !p->started)
        return 0;
    if (p->mask & MASK_RESERVED || p->flags & ~FLAGS_KNOWN || (p->flags & FLAGS_SYNC) == FLAGS_SYNC)
        return 0; /* the kernel says EINVAL */
    asked = asked_for_it(p);
    if (asked < 0)
        count(PATH_FAIL);
    if (asked <= 0)
        return 0;
    match(p);
    if (answer(p))
        bpf_override_return(ctx, 0);
    return 0;
}
