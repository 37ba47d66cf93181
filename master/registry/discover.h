/* SPDX-License-Identifier: MIT */
/*
 * Asks upstreams which models they have (discover-models), when the daemon
 * starts and every few hours, and gives what they list to the registry. An
 * upstream that does not answer is said to once; its last list stays.
 */
#ifndef FL_MASTER_REGISTRY_DISCOVER_H
#define FL_MASTER_REGISTRY_DISCOVER_H

#include <event2/event.h>

#include "master/fetch.h"
#include "master/registry/registry.h"

/*
 * A list is asked for again after DISCOVER_EVERY_MS, after
 * DISCOVER_RETRY_MS where that failed, and DISCOVER_AT_ONCE at a time.
 */
enum {
	DISCOVER_EVERY_MS = 3 * 3600 * 1000,
	DISCOVER_RETRY_MS = 5 * 60 * 1000,
	DISCOVER_TIMEOUT_MS = 30 * 1000,
	DISCOVER_AT_ONCE = 8
};

struct discover;

/* Everything is borrowed and outlives it. Asks nobody yet. */
struct discover *discover_new(struct event_base *base,
    struct registry *registry, struct fetcher *fetcher);
void discover_free(struct discover *d);

/* After each commit: asks all of them, forgets those who are gone. */
void discover_follow(struct discover *d);

/* Asks those who are due at that time of clock_boot_ms(). */
void discover_tick(struct discover *d, int64_t now_ms);

#endif
