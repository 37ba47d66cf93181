/* SPDX-License-Identifier: MIT */
/*
 * libcurl's multi handles on libevent. A multi searches its connections
 * linearly, so it is sharded: a shard has a bounded number of transfers, the
 * lowest one with room takes the next, and all transfers of a shard have the
 * same proxy (with its user), because libcurl 7.88.1 does not tell pooled
 * connections apart by everything that a proxy can be. What a transfer is
 * about is upstream_curl.c's matter.
 */
#ifndef FL_WORKER_UPSTREAM_UPSTREAM_MULTI_H
#define FL_WORKER_UPSTREAM_UPSTREAM_MULTI_H

#include <stdint.h>

#include <curl/curl.h>

#include "common/attr.h"

struct event_base;
struct shard;
struct shards;

struct shards_events {
	/* A transfer ended; it is still in its shard: take it out. */
	void (*done)(void *ctx, CURL *easy, CURLcode result);
	/* libcurl has returned to the event loop: nothing is on its stack. */
	void (*turn)(void *ctx);
};

struct shards *shards_new(struct event_base *base,
    const struct shards_events *events, void *ctx) MUST_CHECK;

/* No transfer may be left in any shard. */
void shards_free(struct shards *ss);

/* Once per easy handle, before its first shard: how sockets are made. */
int shards_prepare(struct shards *ss, CURL *easy) MUST_CHECK;

/* Starts a transfer; nothing of it happens within this call. 0 or -ENOMEM. */
int shards_add(struct shards *ss, const char *proxy, CURL *easy,
    struct shard **out) MUST_CHECK;

/* Never from within libcurl. Closes the connection of an unfinished one. */
void shards_remove(struct shard *s, CURL *easy);

/* Closes shards that have had no transfer for a while, with their pools. */
void shards_trim(struct shards *ss);

#endif
