/* SPDX-License-Identifier: MIT */
/* Options of easy handles (libcurl 7.88.1), and the pool of the handles. */
#include "worker/upstream/upstream_handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/alloc.h"
#include "common/outbound.h"
#include "common/secret.h"
#include "worker/upstream/upstream_multi.h"

enum {
	IDLE_MAX = 64, /* handles kept: 22 KB each */
	IDLE_MIN = 4
};

/* Headers that libcurl would add by itself; so given, it does not. */
static const struct span unwanted[] = {
	SPAN("Accept:"),
	SPAN("Content-Type:"),
	SPAN("Expect:"),
};

static void
handle_free(struct handle *h)
{
	if (h->easy != NULL)
		curl_easy_cleanup(h->easy);
	secret_free(h->proxy);
	free(h);
}

static int
handle_prepare(struct handle_pool *pool, struct handle *h)
{
	CURL *easy = h->easy;

	if (curl_easy_setopt(easy, CURLOPT_SHARE, pool->share) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, h->error) != CURLE_OK ||
	    curl_easy_setopt(
		easy, CURLOPT_HEADERFUNCTION, pool->on_head_line) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, pool->on_chunk) !=
		CURLE_OK)
		return -ENOMEM;
	return shards_prepare(pool->shards, easy);
}

struct handle *
handle_get(struct handle_pool *pool)
{
	struct handle *h = SLIST_FIRST(&pool->idle);

	if (h != NULL) {
		SLIST_REMOVE_HEAD(&pool->idle, link);
		pool->nidle--;
		h->error[0] = '\0';
		return h;
	}
	h = xcalloc(1, sizeof(*h));
	h->easy = curl_easy_init();
	if (h->easy == NULL || handle_prepare(pool, h) != 0) {
		handle_free(h);
		return NULL;
	}
	return h;
}

void
handle_forget_headers(struct handle *h)
{
	(void)curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, NULL);
}

void
handle_put(struct handle_pool *pool, struct handle *h)
{
	if (pool->nidle >= IDLE_MAX) {
		handle_free(h);
		return;
	}
	handle_forget_headers(h);
	(void)curl_easy_setopt(h->easy, CURLOPT_POSTFIELDS, NULL);
	SLIST_INSERT_HEAD(&pool->idle, h, link);
	pool->nidle++;
}

static void
idle_trim(struct handle_pool *pool, unsigned keep)
{
	while (pool->nidle > keep) {
		struct handle *h = SLIST_FIRST(&pool->idle);

		SLIST_REMOVE_HEAD(&pool->idle, link);
		pool->nidle--;
		handle_free(h);
	}
}

int
handle_pool_init(struct handle_pool *pool, struct shards *shards,
    curl_write_callback on_head_line, curl_write_callback on_chunk)
{
	*pool = (struct handle_pool){
		.shards = shards,
		.on_head_line = on_head_line,
		.on_chunk = on_chunk,
	};
	SLIST_INIT(&pool->idle);
	pool->share = curl_share_init();
	if (pool->share == NULL ||
	    curl_share_setopt(
		pool->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) != CURLSHE_OK)
		return -ENOMEM;
	return 0;
}

void
handle_pool_fini(struct handle_pool *pool)
{
	idle_trim(pool, 0);
	if (pool->share != NULL)
		(void)curl_share_cleanup(pool->share);
	pool->share = NULL;
}

void
handle_pool_trim(struct handle_pool *pool)
{
	unsigned half = pool->nidle / 2;

	idle_trim(pool, half > IDLE_MIN ? half : IDLE_MIN);
}

/* Proxy, TLS and deadlines, which seldom differ from the last time. */
static int
load_path(struct handle *h, const struct upstream_request *req)
{
	struct outbound o = {
		.proxy = req->proxy,
		.connect_timeout_ms = req->connect_timeout_ms,
	};
	int rc;

	if (h->proxy != NULL && strcmp(h->proxy, req->proxy) == 0 &&
	    h->connect_timeout_ms == req->connect_timeout_ms)
		return 0;
	rc = outbound_apply(h->easy, &o);
	secret_free(h->proxy);
	h->proxy = rc == 0 ? xstrdup(req->proxy) : NULL;
	h->connect_timeout_ms = req->connect_timeout_ms;
	return rc;
}

static CURLcode
load_body(CURL *easy, const struct upstream_request *req)
{
	const char *method = req->method;
	CURLcode rc;

	if (strcmp(method, "GET") == 0)
		return curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
	rc = curl_easy_setopt(easy, CURLOPT_POST, 1L);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST,
		    strcmp(method, "POST") == 0 ? NULL : method);
	/* The size comes first, or libcurl would measure a string. */
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
		    (curl_off_t)req->body_len);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
		    req->body != NULL ? req->body : "");
	return rc;
}

int
handle_load(struct handle *h, const struct upstream_request *req,
    struct curl_slist *headers, void *owner)
{
	CURL *easy = h->easy;
	int rc = load_path(h, req);

	if (rc != 0)
		return rc;
	if (curl_easy_setopt(easy, CURLOPT_URL, req->url) != CURLE_OK ||
	    load_body(easy, req) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_PRIVATE, owner) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_HEADERDATA, owner) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_WRITEDATA, owner) != CURLE_OK)
		return -ENOMEM;
	return 0;
}

void *
handle_owner(CURL *easy)
{
	char *owner = NULL;

	(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
	return owner;
}

static bool
is_given(const struct upstream_request *req, struct span line)
{
	struct span name = { line.p, line.len - 1 };

	for (size_t i = 0; i < req->nheaders; i++)
		if (span_equal_nocase(span_of(req->headers[i].name), name))
			return true;
	return false;
}

struct curl_slist *
handle_headers(const struct upstream_request *req)
{
	size_t size = 0;
	struct curl_slist *nodes;
	size_t n = 0;
	char *at;

	for (size_t i = 0; i < req->nheaders; i++)
		size += sizeof(*nodes) + strlen(req->headers[i].name) +
			strlen(req->headers[i].value) + sizeof(": ");
	for (size_t i = 0; i < ARRAY_LEN(unwanted); i++)
		size += sizeof(*nodes) + unwanted[i].len + 1;
	nodes = xmalloc(size);
	at = (char *)(nodes + req->nheaders + ARRAY_LEN(unwanted));
	for (size_t i = 0; i < req->nheaders; i++) {
		const struct upstream_header *h = &req->headers[i];

		nodes[n++].data = at;
		at = stpcpy(at, h->name);
		/* libcurl's way to write a header without a value is "Name;".
		 */
		at = stpcpy(at, h->value[0] != '\0' ? ": " : ";");
		at = stpcpy(at, h->value) + 1;
	}
	for (size_t i = 0; i < ARRAY_LEN(unwanted); i++) {
		if (is_given(req, unwanted[i]))
			continue;
		nodes[n++].data = at;
		at = stpcpy(at, unwanted[i].p) + 1;
	}
	for (size_t i = 0; i < n; i++)
		nodes[i].next = i + 1 < n ? &nodes[i + 1] : NULL;
	return nodes;
}
