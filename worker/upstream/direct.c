/* SPDX-License-Identifier: MIT */
/*
 * The carrier of direct connections: HTTP/1.1 over TCP and TLS, one exchange
 * per connection at a time, connections pooled per origin.
 *
 * A request is written from where it lies, head and body in one sendmsg(2). An
 * answer is read into one buffer of the worker's, decoded in place and told
 * from there, so that a stream at rest holds no buffer at all; bytes are
 * copied only when a call is paused in the middle of them. Calls run from the
 * event loop only; what has to happen without an event of their socket waits
 * in a list for the loop's next turn.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "common/log.h"
#include "common/secret.h"
#include "worker/http/http_answer.h"
#include "worker/http/http_head.h"
#include "worker/upstream/carrier.h"
#include "worker/upstream/direct.h"
#include "worker/upstream/direct_request.h"
#include "worker/upstream/resolve.h"
#include "worker/upstream/tls.h"
#include "worker/upstream/url.h"
#include "worker/worker.h"

enum {
	HEAD_MAX = 64 * 1024,
	ROUNDS = 4 /* reads of a call before others have their turn */
};

struct direct_call {
	struct upstream_call face;
	TAILQ_ENTRY(direct_call) link; /* of all */
	TAILQ_ENTRY(direct_call) due_link;
	struct direct *direct;
	struct direct_conn *conn; /* NULL: given back or closed */
	struct upstream_events events;
	void *ctx;

	/* The request; its head is ours and holds a secret. */
	char *head;
	size_t head_len;
	const char *body;
	size_t body_len;
	size_t sent; /* of both */

	/* The answer. */
	struct http_answer answer;
	struct buf partial; /* a head that is not whole yet */
	size_t scanned;     /* of it */
	char *fields;
	size_t fields_len;
	char *rest; /* read, but not told because of a pause */
	size_t rest_len;

	enum upstream_end end;
	bool no_body; /* the answer to a HEAD */
	bool heard;   /* the answer has begun */
	bool whole;   /* its head is whole */
	bool cut;     /* the request cannot be sent any further */
	bool more;    /* the last read may have left something */
	bool paused;
	bool ended;
	bool due;
	bool running; /* call_run() is on the stack */
	bool gone;    /* cancelled, or its end was told */
	char detail[TLS_WHY_MAX];
};

static void
call_due(struct direct_call *call)
{
	static const struct timeval now = { 0, 0 };

	if (call->due || call->gone)
		return;
	call->due = true;
	TAILQ_INSERT_TAIL(&call->direct->due, call, due_link);
	(void)evtimer_add(&call->direct->again, &now);
}

/* ---- ending */

static void
call_drop_conn(struct direct_call *call)
{
	if (call->conn != NULL)
		direct_conn_close(call->conn);
	call->conn = NULL;
}

static void
call_free_head(struct direct_call *call)
{
	if (call->head != NULL)
		secret_wipe(call->head, call->head_len);
	free(call->head);
	call->head = NULL;
}

static void
call_free(struct direct_call *call)
{
	struct direct *d = call->direct;

	call_drop_conn(call);
	if (call->due)
		TAILQ_REMOVE(&d->due, call, due_link);
	TAILQ_REMOVE(&d->calls, call, link);
	call_free_head(call);
	buf_fini(&call->partial);
	free(call->fields);
	free(call->rest);
	free(call);
}

static size_t
unsent(const struct direct_call *call)
{
	return call->head_len + call->body_len - call->sent;
}

static void
call_fail(struct direct_call *call, enum upstream_end end, const char *detail)
{
	call->ended = true;
	call->end = end;
	(void)str_copy(call->detail, sizeof(call->detail), detail);
	call_drop_conn(call);
}

/* The connection is over, and the answer with it unless that was its end. */
static void
call_cut(struct direct_call *call, bool orderly)
{
	struct direct_conn *c = call->conn;

	if (call->whole && orderly &&
	    call->answer.framing == HTTP_ANSWER_CLOSE) {
		call->ended = true;
		call->end = UPSTREAM_COMPLETE;
		call_drop_conn(call);
	} else if (!call->heard && c->reused) {
		/* The others are likely to be dead as well. */
		pool_distrust(&call->direct->pool, c->origin);
		call_fail(call, UPSTREAM_STALE,
		    "a pooled connection had been closed");
	} else if (call->heard) {
		call_fail(call, UPSTREAM_BROKEN,
		    "the connection ended before the answer did");
	} else {
		call_fail(call, UPSTREAM_BROKEN,
		    "the connection ended without an answer");
	}
}

/*
 * The answer is whole; can its connection carry another? Not if something lies
 * behind it, be it in the buffers of TLS, of which the loop knows nothing.
 */
static void
call_complete(struct direct_call *call, bool clean)
{
	struct direct_conn *c = call->conn;

	call->ended = true;
	call->end = UPSTREAM_COMPLETE;
	if (!clean || call->more || !call->answer.keep_alive ||
	    unsent(call) > 0) {
		call_drop_conn(call);
		return;
	}
	call->conn = NULL;
	pool_put(&call->direct->pool, c);
}

/* ---- the request */

static void
call_write(struct direct_call *call)
{
	size_t of_head =
	    call->sent < call->head_len ? call->sent : call->head_len;
	size_t of_body = call->sent - of_head;
	struct iovec piece[2];
	bool full = false;
	ssize_t n;

	if (unsent(call) == 0 || call->cut)
		return;
	piece[0].iov_base = call->head != NULL ? call->head + of_head : NULL;
	piece[0].iov_len = call->head_len - of_head;
	memcpy(&piece[1].iov_base, &call->body, sizeof(call->body));
	piece[1].iov_len = call->body_len - of_body;
	if (of_body > 0)
		piece[1].iov_base = (char *)piece[1].iov_base + of_body;
	n = direct_conn_write(call->conn, piece, &full);
	if (n > 0)
		call->sent += (size_t)n;
	/* What it said before it closed may still be read. */
	call->cut = n < 0;
	if (call->sent >= call->head_len)
		call_free_head(call);
	direct_conn_want(call->conn, full ? EV_READ | EV_WRITE : EV_READ);
}

/* ---- the answer */

static bool
call_keep_fields(struct direct_call *call, const char *head, size_t size)
{
	call->fields_len = size - call->answer.fields;
	call->fields = malloc(call->fields_len);
	if (call->fields == NULL)
		return false;
	memcpy(call->fields, head + call->answer.fields, call->fields_len);
	return true;
}

static void
call_bad(struct direct_call *call)
{
	char why[TLS_WHY_MAX];

	(void)snprintf(why, sizeof(why), "the answer is not to be read: %s",
	    call->answer.error);
	call_fail(call, UPSTREAM_BROKEN, why);
}

/* One whole head. An interim one leaves everything as it was. */
static void
take_head(struct direct_call *call, char *head, size_t size)
{
	struct http_answer *a = &call->answer;

	if (http_answer_read(a, head, size, call->no_body) !=
	    HTTP_ANSWER_DONE) {
		call_bad(call);
		return;
	}
	if (a->status < 200)
		return;
	if (!call_keep_fields(call, head, size)) {
		call_fail(call, UPSTREAM_BROKEN, "out of memory");
		return;
	}
	call->whole = true;
	call->events.head(call->ctx, a->status);
}

/*
 * Looks for heads at the front of what came; returns how many bytes were
 * theirs. A head that came in pieces is put together first.
 */
static size_t
take_head_bytes(struct direct_call *call, char *p, size_t len)
{
	size_t before = call->partial.len;
	enum http_answer_result found;
	size_t size = 0;
	char *head = p;

	if (before > 0) {
		buf_append(&call->partial, p, len);
		if (call->partial.failed) {
			call_fail(call, UPSTREAM_TOO_LARGE,
			    "the head of the answer is too large");
			return len;
		}
		head = call->partial.data;
	}
	found = http_answer_find(
	    &call->answer, head, before + len, &call->scanned, &size);
	if (found == HTTP_ANSWER_BAD) {
		call_bad(call);
		return len;
	}
	if ((found == HTTP_ANSWER_DONE ? size : before + len) > HEAD_MAX) {
		call_fail(call, UPSTREAM_TOO_LARGE,
		    "the head of the answer is too large");
		return len;
	}
	if (found == HTTP_ANSWER_MORE) {
		if (before == 0)
			buf_append(&call->partial, p, len);
		return len;
	}
	call->scanned = 0;
	take_head(call, head, size);
	buf_fini(&call->partial);
	return size - before;
}

static void
call_keep_rest(struct direct_call *call, const char *p, size_t len)
{
	call->rest = malloc(len);
	if (call->rest == NULL) {
		call_fail(call, UPSTREAM_BROKEN, "out of memory");
		return;
	}
	memcpy(call->rest, p, len);
	call->rest_len = len;
}

static void
take_body(struct direct_call *call, char *p, size_t len)
{
	size_t used, made;

	switch (http_answer_body(&call->answer, p, len, &used, &made)) {
	case HTTP_ANSWER_DONE:
		call_complete(call, used == len);
		break;
	case HTTP_ANSWER_MORE:
		break;
	case HTTP_ANSWER_BAD:
		call_bad(call);
		break;
	}
	if (made > 0)
		call->events.data(call->ctx, p, made);
}

static void
call_take(struct direct_call *call, char *p, size_t len)
{
	size_t used;

	while (len > 0 && !call->whole && !call->ended) {
		call->heard = true;
		used = take_head_bytes(call, p, len);
		p += used;
		len -= used;
	}
	if (call->gone || call->ended || !call->whole)
		return;
	if (call->paused && len > 0)
		call_keep_rest(call, p, len);
	else if (len > 0 || call->answer.framing == HTTP_ANSWER_EMPTY)
		take_body(call, p, len);
}

/* What waited for the end of a pause. */
static void
call_take_rest(struct direct_call *call)
{
	char *rest = call->rest;

	call->rest = NULL;
	call_take(call, rest, call->rest_len);
	free(rest);
}

static bool
reads_on(const struct direct_call *call)
{
	return !call->gone && !call->ended && !call->paused;
}

static void
call_read(struct direct_call *call)
{
	struct direct *d = call->direct;
	ssize_t n;

	call->more = true;
	for (int i = 0; call->more && i < ROUNDS && reads_on(call); i++) {
		n = direct_conn_read(
		    call->conn, d->read, sizeof(d->read), &call->more);
		if (n == DIRECT_CONN_WAIT)
			return;
		if (n < 0)
			call_cut(call, n == DIRECT_CONN_EOF);
		else
			call_take(call, d->read, (size_t)n);
	}
	if (call->more && reads_on(call))
		call_due(call);
}

static void
call_run(struct direct_call *call)
{
	call->running = true;
	if (call->conn != NULL && direct_conn_is_open(call->conn)) {
		if (!call->paused)
			direct_conn_want(
			    call->conn, call->conn->armed | EV_READ);
		call_write(call);
		if (call->rest != NULL && reads_on(call))
			call_take_rest(call);
		if (reads_on(call))
			call_read(call);
	}
	if (call->ended && !call->paused && !call->gone) {
		call->gone = true;
		call->events.done(call->ctx, call->end, call->detail);
	}
	call->running = false;
	if (call->gone)
		call_free(call);
}

/* ---- events of its connection */

static void
on_opened(void *ctx)
{
	call_run(ctx);
}

static void
on_failed(void *ctx, const char *why)
{
	struct direct_call *call = ctx;

	call_fail(call,
	    call->conn->starved ? UPSTREAM_STARVED : UPSTREAM_NO_CONNECT, why);
	call_run(call);
}

/* While paused the socket is left alone, but only once it says something. */
static void
on_ready(void *ctx)
{
	struct direct_call *call = ctx;

	if (call->paused) {
		call_write(call);
		direct_conn_want(
		    call->conn, unsent(call) > 0 && !call->cut ? EV_WRITE : 0);
	} else {
		call_run(call);
	}
}

static const struct direct_conn_owner call_owner = { on_opened, on_failed,
	on_ready };

/* What becomes due meanwhile has its turn when others had theirs. */
static void
run_due(struct direct *d)
{
	struct direct_call *call;
	size_t n = 0;

	TAILQ_FOREACH (call, &d->due, due_link)
		n++;
	while (n-- > 0 && (call = TAILQ_FIRST(&d->due)) != NULL) {
		TAILQ_REMOVE(&d->due, call, due_link);
		call->due = false;
		call_run(call);
	}
}

static void
on_again(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	run_due(arg);
}

/* ---- the carrier */

static void
direct_close(void *state)
{
	struct direct *d = state;

	while (!TAILQ_EMPTY(&d->calls))
		call_free(TAILQ_FIRST(&d->calls));
	pool_fini(&d->pool);
	resolver_free(d->resolver);
	tls_client_free(d->tls);
	(void)event_del(&d->again);
	free(d);
}

static void *
direct_open(struct worker *w)
{
	struct direct *d = xcalloc(1, sizeof(*d));

	d->base = w->base;
	TAILQ_INIT(&d->calls);
	TAILQ_INIT(&d->due);
	pool_init(&d->pool);
	(void)evtimer_assign(&d->again, w->base, on_again, d);
	d->resolver = resolver_new(w->base);
	if (d->resolver == NULL) {
		log_error("cannot set up the resolver");
		direct_close(d);
		return NULL;
	}
	return d;
}

/* Puts the request on a connection; it goes out now if there is one. */
static int
call_start(struct direct_call *call, const struct upstream_request *req,
    struct origin *o)
{
	struct direct *d = call->direct;
	int rc = direct_request_head(req, req->url + o->key_len, o->authority,
	    &call->head, &call->head_len);

	if (rc != 0)
		return rc;
	call->conn = pool_take(&d->pool, o, &call_owner, call);
	if (call->conn != NULL) {
		call_write(call);
		return 0;
	}
	call->conn =
	    direct_conn_open(d, o, req->connect_timeout_ms, &call_owner, call);
	return call->conn != NULL ? 0 : -ENOMEM;
}

static int
direct_start(void *state, const struct upstream_request *req,
    const struct upstream_events *events, void *ctx, struct upstream_call **out)
{
	struct direct *d = state;
	struct direct_call *call;
	struct origin *o;
	int rc = pool_origin(&d->pool, req->url, &o);

	if (rc != 0)
		return rc == URL_FOREIGN ? CARRIER_CANNOT : rc;
	call = xcalloc(1, sizeof(*call));
	*call = (struct direct_call){
		.face.carrier = &direct_carrier,
		.direct = d,
		.events = *events,
		.ctx = ctx,
		.body = req->body,
		.body_len = req->body_len,
		.no_body = strcmp(req->method, "HEAD") == 0,
	};
	buf_init(&call->partial, 2 * HEAD_MAX);
	TAILQ_INSERT_TAIL(&d->calls, call, link);
	rc = call_start(call, req, o);
	if (rc != 0) {
		call_free(call);
		return rc;
	}
	*out = &call->face;
	return 0;
}

static struct span
direct_fields(const struct upstream_call *face)
{
	const struct direct_call *call = (const struct direct_call *)face;

	return (struct span){ call->fields, call->fields_len };
}

static size_t
direct_sent_bytes(const struct upstream_call *face)
{
	const struct direct_call *call = (const struct direct_call *)face;

	return call->sent > call->head_len ? call->sent - call->head_len : 0;
}

static void
direct_pause(struct upstream_call *face)
{
	((struct direct_call *)face)->paused = true;
}

static void
direct_resume(struct upstream_call *face)
{
	struct direct_call *call = (struct direct_call *)face;

	if (!call->paused)
		return;
	call->paused = false;
	call_due(call);
}

static void
direct_cancel(struct upstream_call *face)
{
	struct direct_call *call = (struct direct_call *)face;

	if (call->gone)
		return;
	call->gone = true;
	if (call->running)
		call_drop_conn(call);
	else
		call_free(call);
}

static void
direct_trim(void *state)
{
	pool_trim(&((struct direct *)state)->pool);
}

const struct carrier direct_carrier = {
	.open = direct_open,
	.close = direct_close,
	.start = direct_start,
	.fields = direct_fields,
	.sent_bytes = direct_sent_bytes,
	.pause = direct_pause,
	.resume = direct_resume,
	.cancel = direct_cancel,
	.trim = direct_trim,
};
