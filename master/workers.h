/* SPDX-License-Identifier: MIT */
/*
 * The workers, by generation. One generation serves; a candidate is started
 * beside it and takes its place when all of it is READY; retired ones finish
 * their streams. A worker of the generation that serves is replaced when it
 * dies; the death of a candidate's is the failure of the candidate.
 */
#ifndef FL_MASTER_WORKERS_H
#define FL_MASTER_WORKERS_H

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <event2/event.h>

#include "common/attr.h"
#include "common/board.h"
#include "common/buf.h"
#include "common/config.h"
#include "common/ipc.h"
#include "master/listen.h"
#include "master/logfile.h"
#include "master/slot.h"

struct workers;

/* What their owner is told, always from the event loop. */
struct workers_ops {
	void (*ready)(void *ctx);                   /* all of the candidate */
	void (*failed)(void *ctx, const char *why); /* the candidate */
	void (*died)(void *ctx);  /* some worker, told to or not */
	void (*empty)(void *ctx); /* no process is left, after an end */
	void (*result)(void *ctx, const struct ipc_result *result);
	void (*need_refresh)(void *ctx, const struct ipc_refresh *refresh);
	/* A child that is no worker has ended; may be NULL. */
	void (*other_child)(void *ctx, pid_t pid, int wait_status);
	/* A process is dead, ours or not, and its slot will be cleared; may be
	 * NULL. */
	void (*lost)(void *ctx, struct board_slot *slot);
};

enum {
	WORKERS_GENERATIONS_MAX = 8, /* at once; the oldest is ended first */
	WORKERS_STOP_MS = 5000       /* of a short drain, to its very end */
};

/* program: of spawn_open_program(); theirs from now on. */
struct workers *workers_new(struct event_base *base, struct board *board,
    int program, const struct workers_ops *ops, void *ctx);

/* Processes that are left are killed and not waited for. */
void workers_free(struct workers *w);

/*
 * Starts the workers of a candidate; ops->ready or ops->failed follows.
 * Listeners and logs are borrowed while it is the candidate or serves. 0, or
 * -errno with the reason and nothing left of it.
 */
int workers_prepare(struct workers *w, uint64_t generation,
    const struct config *config, const struct listen_set *listeners,
    const struct logfile *logs, struct buf *why) MUST_CHECK;

/* The candidate starts to accept, and what served until now drains. */
void workers_commit(struct workers *w);

/* The candidate is ended: nobody has seen it. Nothing if there is none. */
void workers_abandon(struct workers *w);

/*
 * All drain for good, each as long as its generation allows, and ops->empty
 * follows. workers_stop() cuts that to WORKERS_STOP_MS.
 */
void workers_drain(struct workers *w);
void workers_stop(struct workers *w);

/*
 * For an upgrade in place: describes all generations but a candidate, and
 * takes them over, with the listeners and logs of what serves. A worker that
 * was taken over is not replaced when it dies, its listeners are lent: its
 * generation is soon a retired one.
 */
void workers_hand_over(const struct workers *w, cJSON *into);
void workers_inherit(struct workers *w, const cJSON *from,
    const struct listen_set *listeners, const struct logfile *logs);

/* The program that they are started from. Borrowed. */
int workers_program(const struct workers *w);

/* Collects children that have ended: for SIGCHLD. */
void workers_reap(struct workers *w);

/*
 * Frees the board slots that dead workers of an earlier master left, and says
 * whether any of its workers live: for the start and the janitor.
 */
bool workers_reap_strangers(struct workers *w);

/* Whether any worker is about that does not belong to what serves. */
bool workers_have_leftovers(struct workers *w);

/* Whether nobody of a generation before the one that serves accepts now. */
bool workers_have_handed_over(const struct workers *w);

/* Whether that process is a worker, of whichever master. */
bool workers_know_pid(const struct workers *w, pid_t pid);

/* A hint to all: something in `state` has changed. */
void workers_wake(struct workers *w);

/* Hands out log descriptors that were opened again. */
void workers_send_logs(struct workers *w, const struct logfile *logs);

/* Deaths that nobody asked for, since this master started. */
uint64_t workers_deaths(const struct workers *w);

/* All slots, oldest generation first. */
typedef void
workers_fn(void *ctx, const struct slot *slot, uint64_t generation);
void workers_each(const struct workers *w, workers_fn *fn, void *ctx);

#endif
