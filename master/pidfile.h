/* SPDX-License-Identifier: MIT */
/* The pid file, for init scripts. It locks nothing: see statelock.h. */
#ifndef FL_MASTER_PIDFILE_H
#define FL_MASTER_PIDFILE_H

#include "common/attr.h"

/* Writes this process's pid, replacing the file as a whole. 0 or -errno. */
int pidfile_write(const char *path) MUST_CHECK;

/* Removes it if it still is ours. */
void pidfile_remove(const char *path);

#endif
