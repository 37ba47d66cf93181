/* SPDX-License-Identifier: MIT */
/*
 * The lock that makes a directory one daemon's own: flock(2) on a file in
 * it, so that it is gone with the last process that holds the descriptor,
 * however that ended. Workers never inherit it.
 */
#ifndef FL_MASTER_STATELOCK_H
#define FL_MASTER_STATELOCK_H

#include <sys/types.h>

#include "common/attr.h"

enum { STATELOCK_HELD = 1 /* by another daemon */ };

/*
 * Takes dir/name. 0 and *fd, which holds the lock; STATELOCK_HELD and
 * *holder, 0 if the file does not say; or negative errno.
 */
int statelock_take(
    const char *dir, const char *name, int *fd, pid_t *holder) MUST_CHECK;

/* Writes down who holds it: after a fork, the child. */
void statelock_sign(int fd);

#endif
