/* SPDX-License-Identifier: MIT */
/*
 * One worker as the master sees it: a process that is started, talked to,
 * told to leave and, while its generation serves, started again when it dies.
 * It keeps its part of the board through all of that. Which generation serves
 * is workers.c's matter.
 */
#ifndef FL_MASTER_SLOT_H
#define FL_MASTER_SLOT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <cjson/cJSON.h>
#include <event2/event.h>

#include "common/board.h"
#include "common/buf.h"
#include "common/ipc.h"
#include "master/listen.h"
#include "master/logfile.h"

enum slot_state {
	SLOT_WAITING,  /* no process; one is started when the time comes */
	SLOT_STARTING, /* a process that has not said READY */
	SLOT_READY,    /* it has, and accepts nothing yet */
	SLOT_ACTIVE,   /* it was told START */
	SLOT_DRAINING, /* it was told DRAIN */
	SLOT_ENDING,   /* it was sent TERM */
	SLOT_KILLED,   /* it was sent KILL */
	SLOT_GONE,     /* no process, and none will come */
	SLOT_STATES
};

extern const char *const slot_state_names[SLOT_STATES];

struct slot;

/* What a slot tells its owner. None of them may free it. */
struct slot_ops {
	void (*ready)(void *ctx, struct slot *slot);
	/* A message that is not about the process itself. */
	void (*message)(
	    void *ctx, struct slot *slot, const struct ipc_message *message);
	/* Its process is dead: the last look at its part of the board. */
	void (*lost)(void *ctx, struct slot *slot);
};

/* What all workers of a generation have in common; outlives its slots. */
struct slot_setup {
	struct event_base *base;
	struct board *board;
	uint64_t generation;
	int program;          /* see spawn.h; borrowed */
	const char *snapshot; /* its configuration */
	size_t snapshot_len;
	unsigned nworkers;
	const struct listen_set *listeners;
	const struct logfile *logs;
	const struct slot_ops *ops;
	void *ctx;
};

/* The worker-th of its generation, on a board slot that is ours; WAITING. */
struct slot *
slot_new(const struct slot_setup *setup, unsigned worker, unsigned board_slot);
void slot_free(struct slot *slot);

enum slot_state slot_state(const struct slot *slot);
unsigned slot_board_index(const struct slot *slot);
pid_t slot_pid(const struct slot *slot); /* 0: no process */

/* Starts its process. 0 or negative errno: still WAITING. */
int slot_spawn(struct slot *slot) MUST_CHECK;

/* READY -> ACTIVE: gives it logs and listeners, and START. */
void slot_serve(struct slot *slot);

/*
 * Any -> on its way out: tells it to DRAIN, or ends it if it serves nobody.
 * It gets TERM after within_ms; what drains already is only ever hurried.
 */
void slot_drain(struct slot *slot, int64_t within_ms);

/* DRAINING: it need not wait for next requests on connections kept open. */
void slot_close_idle(struct slot *slot);

/* Any -> ENDING: TERM now, KILL when it does not listen. */
void slot_end(struct slot *slot);

/*
 * To be called every SLOT_LOOK_MS while there is a process: passed_ms is the
 * time since, and no more than that of a few looks, so that a machine that was
 * asleep finds nobody silent. Kills a worker whose heart has stood still for
 * SLOT_HUNG_MS.
 */
enum {
	SLOT_LOOK_MS = 200,
	SLOT_SILENT_MS = 500, /* without a beat: its listeners are lent */
	SLOT_GONE_MS = 200,   /* without a worker that serves: likewise */
	SLOT_HUNG_MS = 10000  /* without a beat: it is killed */
};
void slot_look(struct slot *slot, int64_t passed_ms);

/* For how long it has not beaten, as far as slot_look() has seen. */
int64_t slot_silent_ms(const struct slot *slot);

/* Whether its process has not yet done what DRAIN asks of it. */
bool slot_accepts(const struct slot *slot);

/* Whether connections on its listeners would wait for it. */
bool slot_is_away(const struct slot *slot);

/* Lends it the listeners of another of its generation, or takes them back. */
void slot_lend(struct slot *to, const struct slot *from);
void slot_take_back(struct slot *to, const struct slot *from);

/* New log descriptors, to whoever has the old ones. */
void slot_send_logs(struct slot *slot, const struct logfile *logs);

/* A hint: something in `state` has changed. */
void slot_wake(struct slot *slot);

/*
 * The process has ended with this wait status: logs the obituary, folds its
 * part of the board. With respawn the slot then waits for the next process,
 * otherwise it is GONE. Returns whether nobody had told it to go.
 */
bool slot_reap(struct slot *slot, int wait_status, bool respawn);

/*
 * For an upgrade in place: describes the process, its socket and how far it
 * is, and makes the slot of it again; without a process it is GONE then.
 */
cJSON *slot_hand_over(const struct slot *slot);
struct slot *slot_inherit(const struct slot_setup *setup, const cJSON *row);

/* "exit status 1", "signal 9 (Killed)". */
void slot_describe_death(int wait_status, char *out, size_t size);

enum {
	SLOT_BACKOFF_FIRST_MS = 100,
	SLOT_BACKOFF_MAX_MS = 30000,
	SLOT_EARLY_MS = 1000 /* a death so soon after READY counts as one of
			      * the start */
};

/* How long to wait after a death; last_ms: the wait before, 0 for none. */
int64_t slot_backoff_ms(int64_t last_ms, bool early);

#endif
