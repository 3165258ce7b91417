/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * The statx mock for stock kernels: the call runs, and its answer is rewritten when it ends.
 */
#include "statx_mock.bpf.h"
