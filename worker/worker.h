/* SPDX-License-Identifier: MIT */
/*
 * One worker process: everything it owns, in the order it is set up. Each
 * module gets the struct and uses its own part.
 */
#ifndef FL_WORKER_WORKER_H
#define FL_WORKER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/board.h"
#include "common/config.h"
#include "common/store.h"

struct event_base;
struct listeners;
struct upstream;
struct relays;
struct conns;
struct why;

enum worker_state {
	WORKER_READY, /* set up, told the master, not accepting */
	WORKER_SERVING,
	WORKER_DRAINING /* no new connections; exits with the last one */
};

struct worker {
	struct event_base *base;
	struct config *config;
	struct board *board;
	struct board_slot *slot; /* this process's part of the board */
	unsigned slot_index;
	struct why *why; /* NULL: requests cannot be asked about */
	uint64_t generation;
	enum worker_state state;

	struct store store_state; /* read-only */
	struct store store_bindings;

	struct listeners *listeners;
	struct conns *conns;
	struct upstream *upstream;
	struct relays *relays;
	struct control *control; /* the socket to the master */

	int access_fd; /* -1: none */
	int usage_fd;
	bool usage_failing; /* the last record could not be written */
};

/* Sets everything up, runs until drained or told to stop. The exit status. */
int worker_run(int argc, char **argv);

/* Stops accepting; ends when the last connection is gone. Idempotent. */
void worker_drain(struct worker *w);

/* Ends the loop now, whatever is in flight. */
void worker_stop(struct worker *w);

/* Called when a connection has gone: a draining worker may be done. */
void worker_conn_gone(struct worker *w);

#endif
