/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a new token. Only the master refreshes; a worker whose upstream
 * refuses a token, or that finds one expired, asks it to, and all of its
 * requests that need the same token wait for the same answer: a record with
 * another token, or one that says that there will be none for now. The record
 * is what counts; messages may get lost and only make things quick.
 */
#ifndef FL_WORKER_RELAY_RENEWAL_H
#define FL_WORKER_RELAY_RENEWAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/bindings.h"
#include "common/state.h"

struct renewal;
struct renewals;
struct worker;

enum {
	RENEWAL_ASK_MS = 1000,      /* the master is asked again */
	RENEWAL_LOOK_MS = 250,      /* the record is read again */
	RENEWAL_WAIT_MS = 60 * 1000 /* and nobody waits longer */
};

/* A token of a credential, as it was used. */
struct renewal_token {
	char credential[BINDING_ID_MAX];
	uint32_t slot;
	uint16_t incarnation;
	uint64_t generation;
};

/* One that waits; its owner's. */
struct renewal_wait {
	TAILQ_ENTRY(renewal_wait) link;
	struct renewal *renewal; /* NULL: it does not wait */
	int64_t until_us;
	bool renewed;
	void (*done)(struct renewal_wait *wait, bool renewed);
};

struct renewals *renewals_new(struct worker *worker);

/* Nobody waits any more. NULL is fine. */
void renewals_free(struct renewals *rs);

/* Whether the token has expired, and asking for another may help. */
bool renewal_is_due(const struct state_credential *c);

void
renewal_token_of(struct renewal_token *token, const struct state_credential *c);

/* Waits; done() comes once, from the event loop and never from in here. */
void renewal_wait(struct renewals *rs, const struct renewal_token *token,
    struct renewal_wait *wait, void (*done)(struct renewal_wait *, bool));

/* Waits no longer; done() does not come. Fine for one that does not wait. */
void renewal_leave(struct renewal_wait *wait);

/* Something was published. */
void renewals_wake(struct renewals *rs);

#endif
