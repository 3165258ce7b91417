/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Operations of ext4.
 */
#include "filesystem.bpf.h"

FILESYSTEM(ext4);

OPERATION(READ, ext4_file_read_iter, s64)
OPERATION(WRITE, ext4_file_write_iter, s64)
OPERATION(OPEN, ext4_file_open, s32)
OPERATION(SYNC, ext4_sync_file, s32)
OPERATION(GETATTR, ext4_getattr, s32)
OPERATION(SETATTR, ext4_setattr, s32)
OPERATION(LOOKUP, ext4_lookup, s64)
OPERATION(CREATE, ext4_create, s32)
OPERATION(UNLINK, ext4_unlink, s32)
OPERATION(RENAME, ext4_rename2, s32)
OPERATION(READDIR, ext4_readdir, s32)
