/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Operations of CephFS's client in the kernel. (A mount by ceph-fuse is FUSE's.)
 */
#include "filesystem.bpf.h"

FILESYSTEM(ceph);

OPERATION(READ, ceph_read_iter, s64)
OPERATION(WRITE, ceph_write_iter, s64)
OPERATION(OPEN, ceph_open, s32)
OPERATION(SYNC, ceph_fsync, s32)
OPERATION(GETATTR, ceph_getattr, s32)
OPERATION(SETATTR, ceph_setattr, s32)
OPERATION(LOOKUP, ceph_lookup, s64)
OPERATION(CREATE, ceph_create, s32)
OPERATION(CREATE, ceph_atomic_open, s32)
OPERATION(UNLINK, ceph_unlink, s32)
OPERATION(RENAME, ceph_rename, s32)
OPERATION(READDIR, ceph_readdir, s32)
