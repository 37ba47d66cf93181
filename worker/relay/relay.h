/* SPDX-License-Identifier: MIT */
/*
 * The relay: what happens between a request that was let in and the end of
 * its answer. It picks a credential, makes attempts until one succeeds or the
 * budget is spent, holds the answer back as long as it may still be thrown
 * away, and passes it on. Its part of exchange.h (relay_start and so on) is
 * implemented here.
 */
#ifndef FL_WORKER_RELAY_RELAY_H
#define FL_WORKER_RELAY_RELAY_H

#include <stddef.h>

#include "common/attr.h"
#include "worker/worker.h"

struct relays;

/* For w->relays; NULL when the event loop has no memory for it. */
struct relays *relays_new(struct worker *w) MUST_CHECK;

/* Ends every relay without a word to its client. Before upstream_free(). */
void relays_free(struct relays *rs);

/* Maps the ring of `fairleadctl why` for w->why; without it a line is logged.
 */
void relay_why_open(struct worker *w);

/* Something was published, which requests may wait for. */
void relays_wake(struct relays *rs);

#endif
