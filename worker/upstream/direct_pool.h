/* SPDX-License-Identifier: MIT */
/*
 * Origins and their idle connections. The one that became idle last is used
 * first, so that the others age and go; an idle connection that says anything
 * is closed.
 */
#ifndef FL_WORKER_UPSTREAM_DIRECT_POOL_H
#define FL_WORKER_UPSTREAM_DIRECT_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/attr.h"
#include "worker/upstream/direct_conn.h"

struct ssl_session_st;

/* The pooled connections to one scheme, host and port, as spelled. */
struct origin {
	TAILQ_ENTRY(origin) link; /* of its bucket, the last made first */
	char *key;                /* scheme and authority */
	size_t key_len;
	char *host;
	const char *authority; /* for the Host header, within key */
	uint16_t port;
	bool tls;
	bool is_address; /* of host */
	unsigned conns;  /* idle ones included */
	TAILQ_HEAD(conn_list, direct_conn) idle;
	int64_t used_ms;
	struct ssl_session_st *session; /* resumes the next one; NULL: none */
};

enum { ORIGIN_BUCKETS = 64 };

struct pool {
	TAILQ_HEAD(origin_list, origin) buckets[ORIGIN_BUCKETS];
	size_t idle; /* connections, of all origins */
};

void pool_init(struct pool *pool);

/* Connections that are not idle must have been closed. */
void pool_fini(struct pool *pool);

/* 0 and the origin of a URL, or as url_parse(). It is valid for this turn of
 * the loop, and as long as it has connections. */
int
pool_origin(struct pool *pool, const char *url, struct origin **out) MUST_CHECK;

/* An idle connection, now the caller's; NULL: there is none. */
struct direct_conn *pool_take(struct pool *pool, struct origin *origin,
    const struct direct_conn_owner *owner, void *ctx);

/* Keeps a connection that is between two requests, or closes it. */
void pool_put(struct pool *pool, struct direct_conn *c);

/* Closes the idle ones of an origin whose end of one was found dead. */
void pool_distrust(struct pool *pool, struct origin *origin);

/* Closes what has been idle for too long; forgets origins. */
void pool_trim(struct pool *pool);

#endif
