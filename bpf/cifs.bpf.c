/* SPDX-License-Identifier: GPL-2.0 OR GPL-3.0-or-later
 *
 * Operations of the SMB client, mounted with cache=strict, which is usual, or cache=loose. With cache=none reads and writes go by
 * functions that not every kernel has, and are not timed.
 */
#include "filesystem.bpf.h"

FILESYSTEM(cifs);

OPERATION(READ, cifs_strict_readv, s64)
OPERATION(READ, cifs_loose_read_iter, s64)
OPERATION(WRITE, cifs_strict_writev, s64)
OPERATION(WRITE, cifs_file_write_iter, s64)
OPERATION(OPEN, cifs_open, s32)
OPERATION(SYNC, cifs_strict_fsync, s32)
OPERATION(SYNC, cifs_fsync, s32)
OPERATION(GETATTR, cifs_getattr, s32)
OPERATION(SETATTR, cifs_setattr, s32)
OPERATION(LOOKUP, cifs_lookup, s64)
OPERATION(CREATE, cifs_create, s32)
OPERATION(CREATE, cifs_atomic_open, s32)
OPERATION(UNLINK, cifs_unlink, s32)
OPERATION(RENAME, cifs_rename2, s32)
OPERATION(READDIR, cifs_readdir, s32)
