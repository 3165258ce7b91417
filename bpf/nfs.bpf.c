/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * The NFS client's operations as the processes of this node see them: what the cache answers is in here, too (sunrpc has what goes over
 * the wire). Opens of files whose name the client of NFS 4 knows already are sunrpc's OPEN alone: they are another module's.
 */
#include "filesystem.bpf.h"

FILESYSTEM(nfs);

OPERATION(READ, nfs_file_read, s64)
OPERATION(WRITE, nfs_file_write, s64)
OPERATION(OPEN, nfs_atomic_open, s32)
OPERATION(OPEN, nfs_file_open, s32)
OPERATION(SYNC, nfs_file_fsync, s32)
OPERATION(GETATTR, nfs_getattr, s32)
OPERATION(SETATTR, nfs_setattr, s32)
OPERATION(LOOKUP, nfs_lookup, s64)
OPERATION(CREATE, nfs_create, s32)
OPERATION(UNLINK, nfs_unlink, s32)
OPERATION(RENAME, nfs_rename, s32)
OPERATION(READDIR, nfs_readdir, s32)
