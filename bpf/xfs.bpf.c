/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Operations of XFS.
 */
#include "filesystem.bpf.h"

FILESYSTEM(xfs);

OPERATION(READ, xfs_file_read_iter, s64)
OPERATION(WRITE, xfs_file_write_iter, s64)
OPERATION(OPEN, xfs_file_open, s32)
OPERATION(SYNC, xfs_file_fsync, s32)
OPERATION(GETATTR, xfs_vn_getattr, s32)
OPERATION(SETATTR, xfs_vn_setattr, s32)
OPERATION(LOOKUP, xfs_vn_lookup, s64)
OPERATION(CREATE, xfs_vn_create, s32)
OPERATION(UNLINK, xfs_vn_unlink, s32)
OPERATION(RENAME, xfs_vn_rename, s32)
OPERATION(READDIR, xfs_file_readdir, s32)
