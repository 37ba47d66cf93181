/* SPDX-License-Identifier: MIT */
/*
 * What crosses the exec of a worker: descriptors, by number. Everything else
 * is close-on-exec. The argument list is "fairlead-worker SLOT GENERATION
 * LISTENERS": the process slot on the board, the generation, and how many
 * listening sockets stand from HANDOFF_LISTEN on. Which of them a worker polls
 * it is told by ADOPT messages; the board it opens in runtime-dir; the access
 * and usage logs come as LOG_FD messages before START.
 */
#ifndef FL_COMMON_HANDOFF_H
#define FL_COMMON_HANDOFF_H

enum handoff_fd {
	HANDOFF_LOG = 2,     /* stderr, or the log file */
	HANDOFF_CONTROL = 3, /* SOCK_SEQPACKET to the master */
	HANDOFF_CONFIG = 4,  /* sealed memfd: the worker's configuration */
	HANDOFF_LISTEN = 5   /* the first of all listening sockets */
};

enum handoff_arg {
	HANDOFF_ARG_SLOT = 1,
	HANDOFF_ARG_GENERATION,
	HANDOFF_ARG_LISTENERS,
	HANDOFF_ARG_COUNT
};

#endif
