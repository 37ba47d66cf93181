/* SPDX-License-Identifier: MIT */
/*
 * Replacing a small file as one step: whoever opens it sees the old bytes or
 * the new ones, also after a power cut.
 */
#ifndef FL_MASTER_CREDENTIAL_ATOMIC_FILE_H
#define FL_MASTER_CREDENTIAL_ATOMIC_FILE_H

#include "common/attr.h"
#include "common/buf.h"

/*
 * A temporary file .fairlead-*.tmp beside it, mode 0600, fsync, rename, fsync
 * of the directory. A symbolic link stays, and what it leads to is replaced;
 * the file must exist, and hold `was`, what the new bytes were made of. 0;
 * -EAGAIN if it holds anything else now; or negative errno. Unless it is 0
 * the file is as it was.
 */
int atomic_file_replace(const char *dir, const char *name,
    const struct buf *was, const struct buf *now) MUST_CHECK;

/*
 * Whether such a file could be written now: makes one, and removes it. 0 or
 * negative errno.
 */
int atomic_file_probe(
    const char *dir, const char *name, const struct buf *text) MUST_CHECK;

/* Removes what a process that was killed in between left in a directory. */
void atomic_file_sweep(const char *dir);

#endif
