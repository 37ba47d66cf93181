/* SPDX-License-Identifier: MIT */
#include "worker/upstream/direct_pool.h"

#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "worker/upstream/direct.h"
#include "worker/upstream/resolve.h"
#include "worker/upstream/tls.h"
#include "worker/upstream/url.h"

enum {
	IDLE_MS = 50 * 1000, /* providers close after a minute or more */
	IDLE_MAX = 512,
	FORGET_MS = 10 * 60 * 1000
};

/* FNV-1a. */
static size_t
bucket_of(const char *key, size_t len)
{
	uint32_t hash = 2166136261U;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)key[i]) * 16777619U;
	return hash % ORIGIN_BUCKETS;
}

static int
origin_new(const char *text, struct origin **out)
{
	union endpoint address;
	struct origin *o;
	struct url url;
	int rc = url_parse(&url, text);

	if (rc != 0)
		return rc;
	o = xcalloc(1, sizeof(*o));
	o->key = xstrndup(url.origin.p, url.origin.len);
	o->key_len = url.origin.len;
	o->authority = o->key + (url.authority.p - url.origin.p);
	o->host = xstrndup(url.host.p, url.host.len);
	o->is_address = endpoint_parse(&address, o->host);
	o->port = url.port;
	o->tls = url.tls;
	TAILQ_INIT(&o->idle);
	*out = o;
	return 0;
}

static void
origin_free(struct origin *o)
{
	tls_session_free(o->session);
	free(o->host);
	free(o->key);
	free(o);
}

static void
idle_close(struct pool *pool, struct direct_conn *c)
{
	TAILQ_REMOVE(&c->origin->idle, c, link);
	pool->idle--;
	direct_conn_close(c);
}

/*
 * A provider that says something between two answers closes, or breaks the
 * rules. Only TLS has things to say that nobody asked for, such as tickets.
 */
static void
idle_ready(void *ctx)
{
	struct direct_conn *c = ctx;
	char byte;
	bool more;

	if (direct_conn_read(c, &byte, 1, &more) != DIRECT_CONN_WAIT)
		idle_close(&c->direct->pool, c);
}

static const struct direct_conn_owner idle_owner = { .ready = idle_ready };

void
pool_init(struct pool *pool)
{
	for (size_t i = 0; i < ORIGIN_BUCKETS; i++)
		TAILQ_INIT(&pool->buckets[i]);
	pool->idle = 0;
}

void
pool_fini(struct pool *pool)
{
	struct origin *o;

	for (size_t i = 0; i < ORIGIN_BUCKETS; i++) {
		while ((o = TAILQ_FIRST(&pool->buckets[i])) != NULL) {
			pool_distrust(pool, o);
			TAILQ_REMOVE(&pool->buckets[i], o, link);
			origin_free(o);
		}
	}
}

int
pool_origin(struct pool *pool, const char *url, struct origin **out)
{
	size_t len = url_origin_len(url);
	struct origin_list *bucket = &pool->buckets[bucket_of(url, len)];
	struct origin *o;
	int rc = 0;

	TAILQ_FOREACH (o, bucket, link)
		if (o->key_len == len && memcmp(o->key, url, len) == 0)
			break;
	if (o == NULL) {
		rc = origin_new(url, &o);
		if (rc != 0)
			return rc;
		TAILQ_INSERT_HEAD(bucket, o, link);
	}
	o->used_ms = clock_boot_ms();
	*out = o;
	return 0;
}

static bool
is_too_old(const struct direct_conn *c, int64_t now_ms)
{
	return now_ms - c->idle_since_ms > IDLE_MS;
}

struct direct_conn *
pool_take(struct pool *pool, struct origin *origin,
    const struct direct_conn_owner *owner, void *ctx)
{
	struct direct_conn *c = TAILQ_FIRST(&origin->idle);

	if (c == NULL || is_too_old(c, origin->used_ms))
		return NULL;
	TAILQ_REMOVE(&origin->idle, c, link);
	pool->idle--;
	c->reused = true;
	c->owner = owner;
	c->ctx = ctx;
	return c;
}

void
pool_put(struct pool *pool, struct direct_conn *c)
{
	if (pool->idle >= IDLE_MAX) {
		direct_conn_close(c);
		return;
	}
	c->owner = &idle_owner;
	c->ctx = c;
	c->idle_since_ms = clock_boot_ms();
	direct_conn_want(c, EV_READ);
	TAILQ_INSERT_HEAD(&c->origin->idle, c, link);
	pool->idle++;
}

void
pool_distrust(struct pool *pool, struct origin *origin)
{
	while (!TAILQ_EMPTY(&origin->idle))
		idle_close(pool, TAILQ_FIRST(&origin->idle));
}

/* The oldest is the last. */
static void
origin_trim(struct pool *pool, struct origin *o, int64_t now_ms)
{
	struct direct_conn *c;

	while ((c = TAILQ_LAST(&o->idle, conn_list)) != NULL &&
	       is_too_old(c, now_ms))
		idle_close(pool, c);
}

void
pool_trim(struct pool *pool)
{
	int64_t now_ms = clock_boot_ms();

	for (size_t i = 0; i < ORIGIN_BUCKETS; i++) {
		struct origin *o = TAILQ_FIRST(&pool->buckets[i]);

		while (o != NULL) {
			struct origin *next = TAILQ_NEXT(o, link);

			origin_trim(pool, o, now_ms);
			if (o->conns == 0 && now_ms - o->used_ms > FORGET_MS) {
				TAILQ_REMOVE(&pool->buckets[i], o, link);
				origin_free(o);
			}
			o = next;
		}
	}
}
