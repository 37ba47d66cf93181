/* SPDX-License-Identifier: MIT */
/*
 * What the client is told: the upstream's answer, an error as a body or as an
 * event, and pings. Which of them, and when, is decided elsewhere.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "worker/dialect/dialect.h"
#include "worker/relay/relay_core.h"

static const struct header json_type = { SPAN("content-type"),
	SPAN("application/json") };

static enum dialect
dialect_of(const struct relay *r)
{
	return r->x->route.dialect;
}

static struct iovec
iov_of(const void *p, size_t len)
{
	struct iovec iov = { .iov_len = len };

	memcpy(&iov.iov_base, &p, sizeof(iov.iov_base));
	return iov;
}

/* Bytes went to the client, of which so many still wait for it. */
static void
told(struct relay *r, size_t len, size_t waiting)
{
	r->bytes += len;
	r->told_us = clock_mono_us();
	if (r->first_us == 0)
		r->first_us = r->told_us;
	if (waiting >= EXCHANGE_HIGH && r->trying && !r->attempt.ended) {
		r->paused = true;
		upstream_pause(r->attempt.call);
	}
}

static void
tell(struct relay *r, const void *p, size_t len)
{
	struct iovec iov = iov_of(p, len);

	if (len > 0)
		told(r, len, exchange_write(r->x, &iov, 1));
}

/* Nothing can be sent again from now on: the request goes out of memory. */
static void
release_body(struct relay *r)
{
	if (r->released || !attempt_sent(&r->attempt))
		return;
	r->released = true;
	attempt_release_body(&r->attempt);
	exchange_release_body(r->x);
}

size_t
relay_headers(struct relay *r, struct header headers[HEADERS_BACK_MAX])
{
	return headers_back(
	    r->attempt.call, r->worker->config->passthrough_headers, headers);
}

int64_t
relay_content_length(struct relay *r)
{
	struct span s = upstream_header_get(r->attempt.call, "content-length");
	char text[24];
	int64_t length;

	if (s.len == 0 || s.len >= sizeof(text))
		return -1;
	memcpy(text, s.p, s.len);
	text[s.len] = '\0';
	return str_to_int(text, 0, INT64_MAX, &length) == 0 ? length : -1;
}

/* From here on the upstream's answer is the client's: what is held, and p. */
void
relay_splice(struct relay *r, int64_t length, const char *p, size_t len)
{
	struct header headers[HEADERS_BACK_MAX];
	struct iovec iov[2] = { iov_of(r->held.data, r->held.len),
		iov_of(p, len) };
	size_t waiting;

	relay_commit_pins(r);
	if (r->state == RELAY_HELD)
		waiting = exchange_open(r->x, r->attempt.status, headers,
		    relay_headers(r, headers), length, iov, 2);
	else
		waiting = exchange_write(r->x, iov, 2);
	r->state = RELAY_SPLICED;
	if (r->held.len + len > 0)
		told(r, r->held.len + len, waiting);
	buf_fini(&r->held);
	release_body(r);
}

void
relay_pass_on(struct relay *r, const char *p, size_t len)
{
	relay_commit_pins(r);
	tell(r, p, len);
	release_body(r);
}

struct reply *
relay_last(struct relay *r)
{
	if (r->last == NULL) {
		r->last = xmalloc(sizeof(*r->last));
		reply_init(r->last);
	}
	return r->last;
}

void
relay_note(struct relay *r, int status, const char *code, const char *message)
{
	reply_set(relay_last(r), status, code, "", message);
}

/* An error within a stream that the client has part of. */
static void
send_error_event(struct relay *r)
{
	struct dialect_error e = reply_error(r->last, r->x->request_id);
	struct buf event = BUF_INIT(RELAY_HOLD);
	bool spliced = r->state == RELAY_SPLICED;

	/* A frame that was cut off must end before the next one begins. */
	if (spliced && !dialect_stream_at_boundary(&r->frames))
		buf_puts(&event, "\n\n");
	dialect_error_event(&event, dialect_of(r), &e,
	    spliced ? r->frames.sequence : 0, r->codex);
	tell(r, event.data, event.len);
	buf_fini(&event);
}

/*
 * Whether we say how long to wait: some clients give up on a 429 that does not,
 * and the word of the last that was asked is too long where another one is back
 * before it.
 */
static bool
knows_when(const struct relay *r)
{
	return r->last->status == 429 && r->retry_at_ms > clock_now_ms() &&
	       (!reply_has_retry_after(r->last) ||
		   r->retry_at_ms < r->last_at_ms);
}

/* A header of an upstream's refusal that does not go on to the client. */
static bool
is_replaced(const struct header *h, bool verbatim, bool timed)
{
	if (timed && span_equal_nocase(h->name, SPAN("retry-after")))
		return true;
	return !verbatim &&
	       (span_equal_nocase(h->name, SPAN("content-type")) ||
		   span_equal_nocase(h->name, SPAN("content-encoding")));
}

static void
tell_as_body(struct relay *r)
{
	const struct reply *reply = r->last;
	struct header headers[HEADERS_BACK_MAX + 2];
	struct dialect_error e = reply_error(reply, r->x->request_id);
	const char *code =
	    r->codex ? dialect_code_for_codex(reply->code) : reply->code;
	bool verbatim = reply->verbatim && code == reply->code;
	struct buf body = BUF_INIT(RELAY_HOLD);
	char seconds[24];
	bool timed = knows_when(r);
	size_t n = 0;

	e.code = code;
	for (size_t i = 0; i < reply->nheaders; i++)
		if (!is_replaced(&reply->headers[i], verbatim, timed))
			headers[n++] = reply->headers[i];
	if (!verbatim) {
		headers[n++] = json_type;
		dialect_error_body(&body, dialect_of(r), &e);
	}
	if (timed) {
		(void)snprintf(seconds, sizeof(seconds), "%lld",
		    (long long)respond_retry_seconds(
			r->retry_at_ms - clock_now_ms()));
		headers[n++] =
		    (struct header){ SPAN("retry-after"), span_of(seconds) };
	}
	if (verbatim)
		relay_answer(r, reply->status, headers, n, reply->body.data,
		    reply->body.len);
	else
		relay_answer(r, reply->status, headers, n, body.data, body.len);
	buf_fini(&body);
}

void
relay_tell_last(struct relay *r)
{
	assert(r->last != NULL && r->state != RELAY_SPLICED);
	if (r->state == RELAY_HELD) {
		tell_as_body(r);
	} else {
		send_error_event(r);
		relay_finish(r);
	}
}

/*
 * The answer broke off after the client had part of it. Events can say so;
 * anything else must not look complete.
 */
void
relay_break_off(struct relay *r)
{
	if (r->answer == ANSWER_STREAM && r->frames.framing == DIALECT_SSE) {
		send_error_event(r);
		relay_finish(r);
	} else {
		relay_break(r);
	}
}

/* ---- silence */

static void
open_own(struct relay *r, struct span ping)
{
	struct iovec iov = iov_of(ping.p, ping.len);
	const struct header headers[] = {
		{ SPAN("content-type"), span_of(dialect_stream_type()) },
		{ SPAN("cache-control"), SPAN("no-cache") },
	};

	told(r, ping.len,
	    exchange_open(r->x, 200, headers, ARRAY_LEN(headers), -1, &iov, 1));
	r->state = RELAY_OPENED;
}

void
relay_ping(struct relay *r)
{
	struct span ping = dialect_keepalive(dialect_of(r));

	/* The next one is due an interval from now, sent or not. */
	r->told_us = clock_mono_us();
	if (r->paused)
		return;
	if (r->state == RELAY_SPLICED &&
	    (r->answer != ANSWER_STREAM ||
		!dialect_stream_at_boundary(&r->frames)))
		return;
	if (r->state == RELAY_HELD) {
		if (r->answer != ANSWER_NONE && r->answer != ANSWER_STREAM)
			return;
		open_own(r, ping);
		return;
	}
	tell(r, ping.p, ping.len);
}
