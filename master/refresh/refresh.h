/* SPDX-License-Identifier: MIT */
/*
 * The refresher: gives credentials from files new access tokens before the
 * old ones expire, or when a worker finds that one was refused. One refresh
 * of a credential at a time, auth-auto-refresh-workers in all, and none of
 * them holds up the event loop.
 *
 * What it keeps in memory follows from what the registry publishes: it looks
 * at that anew whenever something was published. What must outlive it stands
 * in the ledger (record.h) and in the files.
 */
#ifndef FL_MASTER_REFRESH_REFRESH_H
#define FL_MASTER_REFRESH_REFRESH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "common/board.h"
#include "common/config.h"
#include "common/ipc.h"
#include "common/proxy.h"
#include "master/fetch.h"
#include "master/ledger.h"
#include "master/registry/registry.h"

struct refresher;

/* What it works with; all of it is borrowed and outlives it. */
struct refresh_parts {
	struct event_base *base;
	struct fetcher *fetcher;
	struct ledger *ledger;
	struct registry *registry;
	struct board *board;
	const struct proxy_env *env;
	struct config *const *config; /* that serves; may be NULL at first */
};

/* Somebody who waits for a refresh. Told once, from the event loop. */
struct refresh_waiter {
	TAILQ_ENTRY(refresh_waiter) link;
	/* error: NULL, or why there is no new token. */
	void (*done)(struct refresh_waiter *waiter, const char *error);
	const char *id; /* the refresher's */
};

struct refresher *refresh_new(const struct refresh_parts *parts);

/*
 * After ledger_stop(), and before that refresh_end(). A request that is under
 * way counts as lost. NULL is fine.
 */
void refresh_free(struct refresher *r);

/* Something was published: looks at it soon. */
void refresh_look_soon(struct refresher *r);

/* A worker says that a token was refused, or has expired. */
void refresh_wanted(struct refresher *r, const struct ipc_refresh *asked);

enum {
	REFRESH_UNKNOWN = 1, /* no such credential */
	REFRESH_USELESS = 2  /* it has nothing to be refreshed with */
};

/*
 * By hand: now, whatever was refused before. 0, and the waiter is told;
 * otherwise it is not.
 */
int refresh_by_hand(
    struct refresher *r, const char *id, struct refresh_waiter *waiter);
void refresh_forget(struct refresher *r, struct refresh_waiter *waiter);

/* By hand: what is known of failures is forgotten. */
void refresh_reset(struct refresher *r, const char *id);

/*
 * Begins nothing any more. Whether all is done already; otherwise `done` is
 * called once it is, or when REFRESH_END_MS have passed.
 */
enum { REFRESH_END_MS = 5000 };
bool refresh_end(struct refresher *r, void (*done)(void *ctx), void *ctx);

/* It was not the end after all. */
void refresh_resume(struct refresher *r);

#endif
