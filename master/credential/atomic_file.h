/* SPDX-License-Identifier: MIT */
/*
 * Replacing a small file as one step: whoever opens it sees the old bytes or
 * the new ones, also after a power cut.
 */
#ifndef FL_MASTER_CREDENTIAL_ATOMIC_FILE_H
#define FL_MASTER_CREDENTIAL_ATOMIC_FILE_H

#include <stddef.h>

#include "common/attr.h"

/*
 * A temporary file .fairlead-*.tmp beside it, mode 0600, fsync, rename, fsync
 * of the directory. A symbolic link stays, and what it leads to is replaced;
 * the file must exist. 0 or negative errno, and then it is as it was.
 */
int atomic_file_replace(
    const char *dir, const char *name, const void *data, size_t len) MUST_CHECK;

/* Removes what a process that was killed in between left in a directory. */
void atomic_file_sweep(const char *dir);

#endif
