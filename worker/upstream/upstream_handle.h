/* SPDX-License-Identifier: MIT */
/*
 * Pooled easy handles, and how a request becomes their options. A handle
 * keeps what seldom changes (proxy, TLS, deadlines, callbacks) from call to
 * call; only URL, method, headers and body are set for each.
 */
#ifndef FL_WORKER_UPSTREAM_UPSTREAM_HANDLE_H
#define FL_WORKER_UPSTREAM_UPSTREAM_HANDLE_H

#include <stdint.h>
#include <sys/queue.h>

#include <curl/curl.h>

#include "common/attr.h"
#include "worker/upstream/upstream.h"

struct shards;

struct handle {
	SLIST_ENTRY(handle) link;
	CURL *easy;
	char *proxy; /* as last applied; NULL: never */
	int64_t connect_timeout_ms;
	char error[CURL_ERROR_SIZE];
};

struct handle_pool {
	SLIST_HEAD(, handle) idle;
	unsigned nidle;
	struct shards *shards;
	CURLSH *share; /* names resolved, for all handles */
	curl_write_callback on_head_line;
	curl_write_callback on_chunk;
};

/* 0 or -ENOMEM. The callbacks get the owner of handle_load(). */
int handle_pool_init(struct handle_pool *pool, struct shards *shards,
    curl_write_callback on_head_line, curl_write_callback on_chunk) MUST_CHECK;

/* After its shards are freed; handles that are out must be back. */
void handle_pool_fini(struct handle_pool *pool);

/* Lets half of the idle handles go. */
void handle_pool_trim(struct handle_pool *pool);

/* NULL: out of memory. */
struct handle *handle_get(struct handle_pool *pool) MUST_CHECK;

/* The handle must be in no shard. */
void handle_put(struct handle_pool *pool, struct handle *h);

/*
 * Makes the handle ready for a request. owner is what the callbacks and
 * handle_owner() give; body and headers are borrowed until handle_put(). 0,
 * -EINVAL for a proxy that cannot be, -ENOMEM.
 */
int handle_load(struct handle *h, const struct upstream_request *req,
    struct curl_slist *headers, void *owner) MUST_CHECK;

/* The answer has begun: the headers of handle_load() are needed no more. */
void handle_forget_headers(struct handle *h);

void *handle_owner(CURL *easy);

/* The headers of a request for handle_load(), one block for free(3). */
struct curl_slist *handle_headers(const struct upstream_request *req);

#endif
