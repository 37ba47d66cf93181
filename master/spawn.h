/* SPDX-License-Identifier: MIT */
/*
 * Starting one worker: the descriptors of common/handoff.h in their places,
 * everything else closed by the exec, and a program that is opened once, so
 * that a package upgrade cannot put a new worker under an old master.
 */
#ifndef FL_MASTER_SPAWN_H
#define FL_MASTER_SPAWN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/attr.h"

struct spawn {
	int program;   /* of spawn_open_program() */
	unsigned slot; /* on the board */
	uint64_t generation;
	int stderr_fd;
	const int *listeners; /* in the order of their indexes */
	size_t nlisteners;
	const char *snapshot; /* the worker's configuration */
	size_t snapshot_len;
};

/*
 * Starts it. 0 with its pid and this end of its control socket, non-blocking
 * and the caller's; or negative errno. An exec that fails shows as exit
 * status SPAWN_EXEC_FAILED, with a line on stderr_fd.
 */
enum { SPAWN_EXEC_FAILED = 127 };
int spawn_worker(const struct spawn *s, pid_t *pid, int *control) MUST_CHECK;

/* In a child: signals as a program expects them, those of a worker ignored. */
void spawn_reset_signals(void);

/*
 * Opens fairlead-worker for execution: of the same build tree if this program
 * runs from one, else where it is installed. 0 with the descriptor and the
 * path, both the caller's; or negative errno with the installed path.
 */
int spawn_open_program(int *fd, char **path) MUST_CHECK;

/*
 * A memfd with this text, at its start, that nobody can change any more. The
 * descriptor, or negative errno.
 */
int spawn_seal(const char *text, size_t len) MUST_CHECK;

#endif
