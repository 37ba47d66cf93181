/* SPDX-License-Identifier: MIT */
/*
 * The reload, a transaction: read and check the file, stage credentials and
 * models, bind what is new, start a generation of workers beside the one that
 * serves. When all of it is READY, one commit publishes credentials, routes
 * and generation; the new workers accept and the old ones drain. Whatever
 * fails before the commit leaves everything as it was. A change that concerns
 * no worker starts none. The first start is the same, with nothing before it.
 */
#ifndef FL_MASTER_RELOAD_H
#define FL_MASTER_RELOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <cjson/cJSON.h>

#include "common/attr.h"
#include "common/buf.h"
#include "common/config.h"

struct master;
struct reload;

struct reload_outcome {
	bool ok;
	const char *text;     /* why not, one line per reason; or a summary */
	bool respawned;       /* with a new generation of workers */
	const cJSON *changes; /* as of reload_dry_run(); NULL: not known */
};

/*
 * Somebody who waits for a reload. Told once, from the event loop: of one that
 * was done when no worker of before accepts connections any more, or after
 * RELOAD_HAND_OVER_MS, if one hangs.
 */
enum { RELOAD_HAND_OVER_MS = 1000 };

struct reload_waiter {
	TAILQ_ENTRY(reload_waiter) entry;
	void (*done)(
	    struct reload_waiter *w, const struct reload_outcome *outcome);
};

struct reload *reload_new(struct master *master);
void reload_free(struct reload *reload);

/*
 * The first start. Takes the configuration. master_started() or
 * master_start_failed() follows, perhaps at once.
 */
void reload_first(struct reload *reload, struct config *config);

/*
 * Asks for a reload, soon: while one is under way, for one more after it,
 * however often. waiter may be NULL.
 */
void reload_request(struct reload *reload, struct reload_waiter *waiter);
void reload_forget(struct reload *reload, struct reload_waiter *waiter);

/* From the pool: all of the candidate is READY; it never will be. */
void reload_ready(struct reload *reload);
void reload_failed(struct reload *reload, const char *why);

/* Gives up what is under way or asked for: the daemon is ending. */
void reload_abort(struct reload *reload);

/*
 * What a reload would do, as {ok, settings, credentials, models,
 * sessions_moved}, the caller's. NULL with the reasons in why if it would be
 * refused or one is under way.
 */
cJSON *reload_dry_run(struct reload *reload, struct buf *why);

/* Whether one is under way or about to begin. */
bool reload_is_busy(const struct reload *reload);

/* The counts, for the program that is executed next. */
void reload_hand_over(const struct reload *reload, cJSON *into);
void reload_inherit(struct reload *reload, const cJSON *from);

uint64_t reload_count(const struct reload *reload, bool ok);

#endif
