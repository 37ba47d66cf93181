/* SPDX-License-Identifier: MIT */
/*
 * The carrier over libcurl 7.88.1. Transfers run in shards (upstream_multi.c);
 * here is what one transfer is: its options, its head, its chunks, its end.
 *
 * Nothing is told from within libcurl. Its callbacks only collect, and mark
 * the call dirty; when libcurl has returned to the event loop, each dirty
 * call is told its head, its chunks as one piece, and its end, in this order.
 * So a relay may start and cancel calls from any event, and chunks that came
 * with one wake-up leave in one write.
 */
#include "worker/upstream/carrier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/upstream/upstream_handle.h"
#include "worker/upstream/upstream_multi.h"
#include "worker/worker.h"

enum {
	HEAD_MAX = 64 * 1024,
	/*
	 * As much is collected in one wake-up; libcurl would go on for 100
	 * times its buffer of 16 KB, which is what a stalled client costs.
	 */
	CHUNKS_FULL = 24 * 1024,
	CHUNKS_MAX = 256 * 1024,
	SPARE_MAX = 64 * 1024, /* a larger buffer is not kept for the next */
	DETAIL_MAX = 160,
	TRIM_MS = 10 * 1000
};

struct call {
	struct upstream_call face;
	TAILQ_ENTRY(call) link; /* of all */
	TAILQ_ENTRY(call) dirty_link;
	struct libcurl *curl;
	struct handle *handle; /* NULL once libcurl is done with it */
	struct shard *shard;
	struct upstream_events events;
	void *ctx;
	struct curl_slist *headers; /* one block, nodes and strings */
	struct buf head;   /* lines of the answer's head, each with CRLF */
	struct buf chunks; /* body bytes not told yet */
	size_t sent_bytes; /* once handle is NULL */
	int status;
	enum upstream_end end;
	bool head_whole;
	bool head_told;
	bool too_large;
	bool stopped; /* libcurl reads no more of it for now */
	bool paused;
	bool ended;
	bool dirty;
	bool telling; /* an event of it is on the stack */
	bool gone;    /* cancelled, or its end was told */
	char detail[DETAIL_MAX];
};

TAILQ_HEAD(call_list, call);

struct libcurl {
	struct shards *shards;
	struct handle_pool handles;
	struct event *tell_event; /* for what is told without a wake-up */
	struct call_list calls;
	struct call_list dirty;
	struct buf spare; /* memory for the next chunks */
	int64_t trimmed_ms;
};

/* Failures with which the request was certainly never sent. */
static const CURLcode no_connect_codes[] = {
	CURLE_UNSUPPORTED_PROTOCOL,
	CURLE_URL_MALFORMAT,
	CURLE_COULDNT_RESOLVE_PROXY,
	CURLE_COULDNT_RESOLVE_HOST,
	CURLE_COULDNT_CONNECT,
	CURLE_OPERATION_TIMEDOUT, /* the only deadline given is to connect */
	CURLE_SSL_CONNECT_ERROR,
	CURLE_SSL_CERTPROBLEM,
	CURLE_SSL_CIPHER,
	CURLE_SSL_CACERT_BADFILE,
	CURLE_SSL_ISSUER_ERROR,
	CURLE_PEER_FAILED_VERIFICATION,
	CURLE_PROXY,
};

static void
call_touch(struct call *call)
{
	if (call->dirty || call->gone)
		return;
	call->dirty = true;
	TAILQ_INSERT_TAIL(&call->curl->dirty, call, dirty_link);
}

/* "HTTP/1.1 200 OK"; 0 if it is not a status line. */
static int
status_of(const char *line, size_t len)
{
	const char *space = memchr(line, ' ', len);
	int status = 0;

	if (space == NULL || line + len - space < 4)
		return 0;
	for (int i = 1; i <= 3; i++) {
		if (space[i] < '0' || space[i] > '9')
			return 0;
		status = status * 10 + (space[i] - '0');
	}
	return status;
}

static size_t
call_head_line(struct call *call, const char *line, size_t len)
{
	if (call->head_whole) /* a trailer */
		return len;
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
		buf_clear(&call->head);
		call->status = status_of(line, len);
		return len;
	}
	if (len > 0 && line[0] != '\r' && line[0] != '\n') {
		buf_append(&call->head, line, len);
		call->too_large = call->head.failed;
		return call->too_large ? 0 : len;
	}
	if (call->status >= 200) {
		call->head_whole = true;
		call_touch(call);
	}
	return len;
}

static size_t
on_head_line(char *line, size_t size, size_t count, void *arg)
{
	return call_head_line(arg, line, size * count);
}

static void
call_stop(struct call *call)
{
	if (call->stopped || call->handle == NULL)
		return;
	call->stopped = true;
	(void)curl_easy_pause(call->handle->easy, CURLPAUSE_RECV);
}

/* libcurl may hand out at once what it kept, and the call is dirty again. */
static void
call_go_on(struct call *call)
{
	call->stopped = false;
	if (call->handle != NULL)
		(void)curl_easy_pause(call->handle->easy, CURLPAUSE_CONT);
}

static size_t
call_chunk(struct call *call, const char *p, size_t len)
{
	struct libcurl *c = call->curl;

	if (call->chunks.cap == 0 && c->spare.cap != 0) {
		call->chunks = c->spare;
		buf_init(&c->spare, CHUNKS_MAX);
	}
	buf_append(&call->chunks, p, len);
	call_touch(call);
	if (call->chunks.len >= CHUNKS_FULL)
		call_stop(call);
	return call->chunks.failed ? 0 : len;
}

static size_t
on_chunk(char *p, size_t size, size_t count, void *arg)
{
	return call_chunk(arg, p, size * count);
}

static size_t
sent_of(const struct call *call)
{
	curl_off_t sent = 0;

	if (call->handle == NULL)
		return call->sent_bytes;
	(void)curl_easy_getinfo(
	    call->handle->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
	return sent > 0 ? (size_t)sent : 0;
}

/* libcurl is done with it, or has to be. */
static void
call_detach(struct call *call)
{
	struct handle *h = call->handle;

	if (h == NULL)
		return;
	call->sent_bytes = sent_of(call);
	if (call->shard != NULL)
		shards_remove(call->shard, h->easy);
	call->shard = NULL;
	call->handle = NULL;
	handle_put(&call->curl->handles, h);
}

static void
call_free(struct call *call)
{
	call_detach(call);
	if (call->dirty)
		TAILQ_REMOVE(&call->curl->dirty, call, dirty_link);
	TAILQ_REMOVE(&call->curl->calls, call, link);
	free(call->headers);
	buf_fini(&call->head);
	buf_fini(&call->chunks);
	free(call);
}

static bool
is_no_connect(CURL *easy, CURLcode code)
{
	curl_off_t begun_us = 0;

	for (size_t i = 0; i < ARRAY_LEN(no_connect_codes); i++)
		if (code == no_connect_codes[i])
			return true;
	/* A proxy that refuses CONNECT is told as a failed receive. */
	return curl_easy_getinfo(
		   easy, CURLINFO_PRETRANSFER_TIME_T, &begun_us) == CURLE_OK &&
	       begun_us == 0;
}

static enum upstream_end
end_of(const struct call *call, CURLcode code)
{
	CURL *easy = call->handle->easy;
	long connects = 1;

	if (code == CURLE_OK && call->head_whole)
		return UPSTREAM_COMPLETE;
	if (call->too_large)
		return UPSTREAM_TOO_LARGE;
	if (is_no_connect(easy, code))
		return UPSTREAM_NO_CONNECT;
	/* libcurl sends again by itself where it is sure to be let. */
	(void)curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connects);
	if (connects == 0 && call->status == 0)
		return UPSTREAM_STALE;
	return UPSTREAM_BROKEN;
}

static void
call_end(struct call *call, CURLcode code)
{
	const char *detail = call->handle->error;

	call->ended = true;
	call->end = end_of(call, code);
	if (call->end != UPSTREAM_COMPLETE) {
		if (detail[0] == '\0')
			detail = curl_easy_strerror(code);
		(void)str_copy(call->detail, sizeof(call->detail), detail);
	}
	call_detach(call);
	call_touch(call);
}

static void
tell_chunks(struct call *call)
{
	struct libcurl *c = call->curl;
	struct buf chunks = call->chunks;

	/* The relay may cancel, and new chunks may come before it returns. */
	buf_init(&call->chunks, CHUNKS_MAX);
	call->events.data(call->ctx, chunks.data, chunks.len);
	if (c->spare.cap == 0 && chunks.cap <= SPARE_MAX) {
		buf_clear(&chunks);
		c->spare = chunks;
	} else {
		buf_fini(&chunks);
	}
}

/* They have gone out for good, and a stream may last. */
static void
call_free_headers(struct call *call)
{
	if (call->handle != NULL)
		handle_forget_headers(call->handle);
	free(call->headers);
	call->headers = NULL;
}

static void
call_tell(struct call *call)
{
	call->telling = true;
	if (call->head_whole && !call->head_told) {
		call->head_told = true;
		call_free_headers(call);
		call->events.head(call->ctx, call->status);
	}
	if (!call->gone && !call->paused && call->chunks.len > 0)
		tell_chunks(call);
	if (!call->gone && !call->paused && call->stopped)
		call_go_on(call);
	if (!call->gone && call->ended && call->chunks.len == 0) {
		call->gone = true;
		call->events.done(call->ctx, call->end, call->detail);
	}
	call->telling = false;
	if (call->gone)
		call_free(call);
}

static void
libcurl_tell(struct libcurl *c)
{
	struct call *call;

	while ((call = TAILQ_FIRST(&c->dirty)) != NULL) {
		TAILQ_REMOVE(&c->dirty, call, dirty_link);
		call->dirty = false;
		call_tell(call);
	}
}

static void
on_tell(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	libcurl_tell(arg);
}

static void
on_turn(void *ctx)
{
	libcurl_tell(ctx);
}

static void
on_done(void *ctx UNUSED, CURL *easy, CURLcode code)
{
	call_end(handle_owner(easy), code);
}

static void
libcurl_free(void *state)
{
	struct libcurl *c = state;

	while (!TAILQ_EMPTY(&c->calls))
		call_free(TAILQ_FIRST(&c->calls));
	shards_free(c->shards);
	handle_pool_fini(&c->handles);
	if (c->tell_event != NULL)
		event_free(c->tell_event);
	buf_fini(&c->spare);
	free(c);
}

static void *
libcurl_new(struct worker *w)
{
	static const struct shards_events events = { on_done, on_turn };
	struct libcurl *c = xcalloc(1, sizeof(*c));

	TAILQ_INIT(&c->calls);
	TAILQ_INIT(&c->dirty);
	buf_init(&c->spare, CHUNKS_MAX);
	c->shards = shards_new(w->base, &events, c);
	c->tell_event = event_new(w->base, -1, 0, on_tell, c);
	if (handle_pool_init(&c->handles, c->shards, on_head_line, on_chunk) !=
		0 ||
	    c->tell_event == NULL) {
		log_error("cannot set up libcurl: out of memory");
		libcurl_free(c);
		return NULL;
	}
	return c;
}

/* Hands the request to libcurl; nothing of it happens before the next turn. */
static int
call_start(struct call *call, const struct upstream_request *req)
{
	struct libcurl *c = call->curl;
	int rc;

	call->handle = handle_get(&c->handles);
	if (call->handle == NULL)
		return -ENOMEM;
	call->headers = handle_headers(req);
	rc = handle_load(call->handle, req, call->headers, call);
	if (rc != 0)
		return rc;
	return shards_add(
	    c->shards, req->proxy, call->handle->easy, &call->shard);
}

static int
libcurl_start(void *state, const struct upstream_request *req,
    const struct upstream_events *events, void *ctx, struct upstream_call **out)
{
	struct libcurl *c = state;
	struct call *call;
	int rc;

	if (strncasecmp(req->url, "http://", 7) != 0 &&
	    strncasecmp(req->url, "https://", 8) != 0)
		return -EINVAL;
	call = xcalloc(1, sizeof(*call));
	call->face.carrier = &curl_carrier;
	call->curl = c;
	call->events = *events;
	call->ctx = ctx;
	buf_init(&call->head, HEAD_MAX);
	buf_init(&call->chunks, CHUNKS_MAX);
	TAILQ_INSERT_TAIL(&c->calls, call, link);
	rc = call_start(call, req);
	if (rc != 0) {
		call_free(call);
		return rc;
	}
	*out = &call->face;
	return 0;
}

static struct span
libcurl_fields(const struct upstream_call *face)
{
	const struct call *call = (const struct call *)face;

	return (struct span){ call->head.data, call->head.len };
}

static size_t
libcurl_sent_bytes(const struct upstream_call *face)
{
	return sent_of((const struct call *)face);
}

static void
libcurl_pause(struct upstream_call *face)
{
	struct call *call = (struct call *)face;

	if (call->gone)
		return;
	call->paused = true;
	call_stop(call);
}

static void
libcurl_resume(struct upstream_call *face)
{
	struct call *call = (struct call *)face;

	if (!call->paused || call->gone)
		return;
	call->paused = false;
	call_touch(call);
	event_active(call->curl->tell_event, EV_TIMEOUT, 0);
}

static void
libcurl_cancel(struct upstream_call *face)
{
	struct call *call = (struct call *)face;

	if (call->gone)
		return;
	call->gone = true;
	if (call->telling)
		call_detach(call);
	else
		call_free(call);
}

static void
libcurl_trim(void *state)
{
	struct libcurl *c = state;
	int64_t now_ms = clock_boot_ms();

	if (now_ms - c->trimmed_ms < TRIM_MS)
		return;
	c->trimmed_ms = now_ms;
	shards_trim(c->shards);
	handle_pool_trim(&c->handles);
}

const struct carrier curl_carrier = {
	.open = libcurl_new,
	.close = libcurl_free,
	.start = libcurl_start,
	.fields = libcurl_fields,
	.sent_bytes = libcurl_sent_bytes,
	.pause = libcurl_pause,
	.resume = libcurl_resume,
	.cancel = libcurl_cancel,
	.trim = libcurl_trim,
};
