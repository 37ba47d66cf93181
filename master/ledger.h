/* SPDX-License-Identifier: MIT */
/*
 * The environment `ledger` is the only one that is synced, and a sync takes
 * as long as the disk likes, so it belongs to a thread: whoever reads or
 * writes it hands in a job, which runs there, and is told on the event loop
 * when it has run. Jobs run one after the other, in order. What they mean is
 * their owners' matter: refreshes and usage totals.
 */
#ifndef FL_MASTER_LEDGER_H
#define FL_MASTER_LEDGER_H

#include <sys/queue.h>

#include <event2/event.h>

#include "common/attr.h"
#include "common/store.h"

struct ledger;

/* Embedded in what it needs; its owner's until submitted, and after done(). */
struct ledger_job {
	STAILQ_ENTRY(ledger_job) entry;
	/* On the thread: may touch the store and its own job, nothing else. */
	void (*run)(struct ledger_job *job, struct store *store);
	/* On the loop. It may free the job, or submit it again. */
	void (*done)(struct ledger_job *job);
};

/*
 * Starts the thread. From here until ledger_stop() the store, opened by
 * store_open_master(), is touched by jobs alone. 0 or negative errno.
 */
int ledger_start(struct event_base *base, struct store *store,
    struct ledger **out) MUST_CHECK;

void ledger_submit(struct ledger *ledger, struct ledger_job *job);

/*
 * Runs what was submitted to its end, jobs that done() submits included, and
 * ends the thread; the store is the caller's again. NULL does nothing.
 */
void ledger_stop(struct ledger *ledger);

#endif
