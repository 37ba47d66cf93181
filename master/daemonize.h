/* SPDX-License-Identifier: MIT */
/*
 * Going into the background with a truthful exit status: the process that was
 * started waits on a pipe and exits 0 only when the daemon says it serves.
 */
#ifndef FL_MASTER_DAEMONIZE_H
#define FL_MASTER_DAEMONIZE_H

#include "common/attr.h"

/*
 * Returns in the child, a session of its own in "/" whose stdin and stdout
 * are /dev/null, with the pipe's writing end in *ready; or -errno in the
 * caller. The caller otherwise waits for the outcome, prints why if it is bad,
 * and exits.
 */
int daemonize(int *ready) MUST_CHECK;

/* Tells the waiting process that all is well; closes. -1 is fine. */
void daemonize_ready(int *ready);

/* Tells it why not; closes. -1 is fine. */
void daemonize_failed(int *ready, const char *why);

#endif
