/* SPDX-License-Identifier: MIT */
/*
 * What comes back: one row of handlers for each kind of answer, and what each
 * way to end means.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/secret.h"
#include "worker/relay/relay_core.h"
#include "worker/relay/retry_after.h"

/* Statuses under which our own errors go into r->last. */
enum { BAD_GATEWAY = 502, GATEWAY_TIMEOUT = 504 };

/* Said by proxies only (RFC 9110 15.5.8), so it is the path that failed. */
enum { PROXY_AUTHENTICATION = 407 };

/* Behind the end of a window, 1 to 30 s. */
enum { SPREAD_MIN_MS = 1000, SPREAD_MS = 29000 };

static const char empty_answer[] = "The provider's answer is empty";

void
relay_forget_answer(struct relay *r)
{
	r->answer = ANSWER_NONE;
	r->paused = false;
	r->heard_us = 0;
	buf_fini(&r->held);
	if (r->collect != NULL)
		collect_fini(r->collect);
	free(r->collect);
	r->collect = NULL;
	relay_forget_pins(r);
}

/* ---- failures */

/* A failure that has no status of HTTP. */
static struct failure
failure_of(struct relay *r, enum attempt_end end, int status)
{
	return (struct failure){
		.end = end,
		.status = status,
		.text = { "", 0 },
		.code = "",
		.type = "",
		.operation = r->x->route.row->operation,
		.model = r->attempt.model,
		.retry_after_ms = RETRY_AFTER_NONE,
	};
}

/* The answer makes no sense, though its status is 2xx. */
static void
fail_unusable(struct relay *r, const char *message)
{
	struct failure f = failure_of(r, ATTEMPT_IN_BAND, BAD_GATEWAY);

	relay_note(r, BAD_GATEWAY, "upstream_failed", message);
	relay_failed(r, &f);
}

static const char *
end_message(enum upstream_end end)
{
	static const char *const messages[] = {
		[UPSTREAM_COMPLETE] = "The provider ended its answer early",
		[UPSTREAM_NO_CONNECT] = "The provider cannot be reached",
		[UPSTREAM_BROKEN] = "The connection to the provider broke",
		[UPSTREAM_STALE] = "The connection to the provider broke",
		[UPSTREAM_TOO_LARGE] = "The provider's header is too large",
		[UPSTREAM_STARVED] = "The gateway is out of descriptors",
	};

	return messages[end];
}

/* The path broke before anything was told. */
static void
fail_path(struct relay *r, enum upstream_end end)
{
	struct failure f = failure_of(r, ATTEMPT_NETWORK, 0);

	/* That was an answer: the same request would get it again. */
	if (end == UPSTREAM_TOO_LARGE) {
		fail_unusable(r, end_message(end));
		return;
	}
	/* No path of the credential's is to blame: there may be room soon. */
	if (end == UPSTREAM_STARVED)
		r->attempt.cooling.own_path = false;
	relay_note(r, BAD_GATEWAY, "upstream_failed", end_message(end));
	relay_failed(r, &f);
}

/* The path broke under an answer: no outcome, but a record and an error. */
static void
lose_path(struct relay *r, enum upstream_end end)
{
	relay_note(r, BAD_GATEWAY, "upstream_failed", end_message(end));
	relay_close_attempt(r, ATTEMPT_NETWORK, r->attempt.status);
	relay_break_off(r);
}

/* ---- not 2xx */

static struct span
on_header(void *ctx, const char *name)
{
	return upstream_header_get(ctx, name);
}

/*
 * How long the answer asks us to stay away, and from what. Everybody whose
 * window of a subscription opens at the same moment is spread behind it.
 */
static void
take_hint(
    struct relay *r, int64_t delay_ms, int64_t resets_at_s, struct failure *f)
{
	struct retry_source source = {
		.header = on_header,
		.ctx = r->attempt.call,
		.delay_ms = delay_ms,
		.resets_at_s = resets_at_s,
		.now_s = time(NULL),
		.max_ms = r->attempt.cooling.max_ms,
	};
	struct retry_hint hint = retry_hint_read(&source);
	uint16_t random = 0;

	if (hint.window)
		random_bytes(&random, sizeof(random));
	if (hint.window)
		hint.ms += SPREAD_MIN_MS + random % SPREAD_MS;
	f->retry_after_ms = hint.ms;
	f->account = hint.account;
}

static void
judge_error(struct relay *r, bool whole)
{
	struct attempt *a = &r->attempt;
	struct failure f = failure_of(r, ATTEMPT_STATUS, a->status);
	struct outcome o;
	struct error_body e;

	error_body_read(&e, r->held.len > 0 ? r->held.data : "", r->held.len);
	f.text = (struct span){ r->held.data, r->held.len };
	f.code = e.code;
	f.type = e.type;
	f.challenge = upstream_header_get(a->call, "cf-mitigated").len > 0;
	take_hint(r, e.delay_ms, e.resets_at_s, &f);
	attempt_find_rule(a, &f);
	o = outcome_of(&f, &a->cooling);
	reply_keep(relay_last(r), a->call, a->status, &r->held, &e, whole,
	    o.action == OUTCOME_PASS_ON, r->worker->config->passthrough_headers,
	    a->secret);
	/* The text went with the body. */
	f.text.p = r->last->body.data;
	relay_failed(r, &f);
}

static void
error_data(struct relay *r, const char *p, size_t len)
{
	size_t room = RELAY_HOLD - r->held.len;

	buf_append(&r->held, p, len < room ? len : room);
	if (len > room)
		judge_error(r, false);
}

static void
error_done(struct relay *r, enum upstream_end end)
{
	judge_error(r, end == UPSTREAM_COMPLETE);
}

void
relay_timed_out(struct relay *r)
{
	struct failure f = failure_of(r, ATTEMPT_TIMEOUT, 0);
	struct outcome o;
	int64_t until_ms;

	if (r->answer == ANSWER_ERROR) {
		judge_error(r, false);
		return;
	}
	relay_note(r, GATEWAY_TIMEOUT, respond_code(RESPOND_UPSTREAM_TIMEOUT),
	    respond_message(RESPOND_UPSTREAM_TIMEOUT));
	if (r->state != RELAY_SPLICED) {
		relay_failed(r, &f);
		return;
	}
	o = attempt_charge(&r->attempt, &f, &until_ms);
	relay_release_session(r, &o);
	relay_close_attempt(r, ATTEMPT_TIMEOUT, r->attempt.status);
	relay_break_off(r);
}

/* ---- errors inside a 200 */

/* What it says of itself, for phrases and rules. */
struct in_band_text {
	char text[2 * DIALECT_CODE_MAX + DIALECT_TEXT_MAX + 2];
};

/* An error inside a 200, for the table; the text is the failure's. */
static struct failure
failure_in_band(struct relay *r, const struct dialect_frame *frame,
    struct in_band_text *said)
{
	struct failure f = failure_of(r, ATTEMPT_IN_BAND, frame->status);
	int len = snprintf(said->text, sizeof(said->text), "%s\n%s\n%s",
	    frame->code, frame->type, frame->message);

	f.text = (struct span){ said->text, (size_t)len };
	f.code = frame->code;
	f.type = frame->type;
	take_hint(r, frame->delay_ms, frame->resets_at_s, &f);
	attempt_find_rule(&r->attempt, &f);
	return f;
}

static void
fail_in_band(struct relay *r, const struct dialect_frame *frame)
{
	struct in_band_text said;
	struct failure f = failure_in_band(r, frame, &said);

	reply_set(relay_last(r), frame->status, frame->code, frame->type,
	    frame->message);
	relay_failed(r, &f);
}

/* ---- whole answers */

/* Reads what is passed on for its tokens alone. */
static void
count_only(struct relay *r, const char *p, size_t len)
{
	struct dialect_frame frame;
	size_t used;

	for (; len > 0; p += used, len -= used)
		if (dialect_stream_next(&r->frames, p, len, &used, &frame) ==
		    DIALECT_MORE)
			return;
}

static void
whole_data(struct relay *r, const char *p, size_t len)
{
	if (r->state == RELAY_SPLICED) {
		relay_pass_on(r, p, len);
		count_only(r, p, len);
	} else if (r->held.len + len > RELAY_HOLD) {
		count_only(r, r->held.data, r->held.len);
		relay_splice(r, relay_content_length(r), p, len);
		count_only(r, p, len);
	} else {
		buf_append(&r->held, p, len);
	}
}

/* Whether the whole of it is an error. */
static bool
whole_is_error(struct relay *r, struct dialect_frame *frame)
{
	size_t used;

	dialect_stream_init(&r->frames, r->x->route.dialect, DIALECT_JSON);
	return dialect_stream_next(&r->frames, r->held.data, r->held.len, &used,
		   frame) == DIALECT_FRAME &&
	       frame->class == DIALECT_ERROR;
}

/* A request at fault is not told apart, but by a rule: it gets the answer. */
static bool
whole_counts(struct relay *r, const struct dialect_frame *frame)
{
	struct in_band_text said;
	struct failure f = failure_in_band(r, frame, &said);

	return outcome_of(&f, &r->attempt.cooling).action != OUTCOME_PASS_ON ||
	       f.ruled;
}

static void
whole_done(struct relay *r, enum upstream_end end)
{
	struct header headers[HEADERS_BACK_MAX];
	struct dialect_frame frame;
	size_t n;

	if (end != UPSTREAM_COMPLETE) {
		if (r->state == RELAY_SPLICED)
			lose_path(r, end);
		else
			fail_path(r, end);
		return;
	}
	if (r->state == RELAY_SPLICED) {
		relay_succeeded(r);
		relay_finish(r);
		return;
	}
	if (r->held.len == 0) {
		fail_unusable(r, empty_answer);
		return;
	}
	if (whole_is_error(r, &frame) && whole_counts(r, &frame)) {
		fail_in_band(r, &frame);
		return;
	}
	n = relay_headers(r, headers);
	relay_commit_pins(r);
	relay_succeeded(r);
	relay_answer(
	    r, r->attempt.status, headers, n, r->held.data, r->held.len);
}

/* ---- streams */

/* Follows what was passed on already, for its end and its errors. */
static void
follow(struct relay *r, const char *p, size_t len)
{
	struct dialect_frame frame;
	struct in_band_text said;
	struct failure f;
	struct outcome o;
	int64_t until_ms;
	size_t used;

	for (; len > 0; p += used, len -= used) {
		if (dialect_stream_next(&r->frames, p, len, &used, &frame) ==
		    DIALECT_MORE)
			return;
		if (frame.class != DIALECT_ERROR || r->charged)
			continue;
		r->charged = true;
		f = failure_in_band(r, &frame, &said);
		reply_set(relay_last(r), frame.status, frame.code, frame.type,
		    frame.message);
		o = attempt_charge(&r->attempt, &f, &until_ms);
		relay_release_session(r, &o);
	}
}

enum verdict {
	VERDICT_HOLD,
	VERDICT_SPLICE,
	VERDICT_FAILED /* and dealt with */
};

/* Reads frames until one decides; *used: how much was read. */
static enum verdict
examine(struct relay *r, const char *p, size_t len, size_t *used)
{
	struct dialect_frame frame;
	size_t step;

	for (*used = 0; *used < len; *used += step) {
		if (dialect_stream_next(&r->frames, p + *used, len - *used,
			&step, &frame) == DIALECT_MORE)
			return VERDICT_HOLD;
		if (frame.class == DIALECT_PREFACE)
			continue;
		*used += step;
		if (frame.class != DIALECT_ERROR)
			return VERDICT_SPLICE;
		fail_in_band(r, &frame);
		return VERDICT_FAILED;
	}
	return VERDICT_HOLD;
}

static void
stream_data(struct relay *r, const char *p, size_t len)
{
	size_t used;

	if (r->state == RELAY_SPLICED) {
		relay_pass_on(r, p, len);
		follow(r, p, len);
		return;
	}
	switch (examine(r, p, len, &used)) {
	case VERDICT_FAILED:
		break;
	case VERDICT_SPLICE:
		relay_splice(r, -1, p, len);
		follow(r, p + used, len - used);
		break;
	case VERDICT_HOLD:
		if (r->held.len + len > RELAY_HOLD)
			relay_splice(r, -1, p, len);
		else
			buf_append(&r->held, p, len);
		break;
	}
}

static void
stream_done(struct relay *r, enum upstream_end end)
{
	bool array = r->frames.framing == DIALECT_JSON;

	if (r->state != RELAY_SPLICED) {
		if (end == UPSTREAM_COMPLETE)
			fail_unusable(r, empty_answer);
		else
			fail_path(r, end);
	} else if (r->charged) {
		/* The client has the upstream's own error event. */
		relay_close_attempt(r, ATTEMPT_IN_BAND, r->attempt.status);
		relay_finish(r);
	} else if (dialect_stream_complete(&r->frames) ||
		   (array && end == UPSTREAM_COMPLETE)) {
		relay_succeeded(r);
		relay_finish(r);
	} else {
		lose_path(r, end);
	}
}

/* ---- passed on unread */

static void
raw_done(struct relay *r, enum upstream_end end)
{
	if (end != UPSTREAM_COMPLETE) {
		lose_path(r, end);
		return;
	}
	relay_succeeded(r);
	relay_finish(r);
}

/* ---- a stream for a caller who wants one answer */

static void
answer_collected(struct relay *r)
{
	struct header headers[HEADERS_BACK_MAX + 1];
	struct span text = collect_answer(r->collect);
	size_t found = relay_headers(r, headers + 1);
	size_t n = 1;

	headers[0] =
	    (struct header){ SPAN("content-type"), SPAN("application/json") };
	for (size_t i = 1; i <= found; i++)
		if (!span_equal_nocase(headers[i].name, headers[0].name))
			headers[n++] = headers[i];
	relay_commit_pins(r);
	relay_succeeded(r);
	relay_answer(r, r->attempt.status, headers, n, text.p, text.len);
}

static void
collect_data(struct relay *r, const char *p, size_t len)
{
	size_t used = 0, step;
	struct dialect_frame frame;

	while (used < len) {
		if (dialect_stream_next(&r->frames, p + used, len - used, &step,
			&frame) == DIALECT_MORE)
			break;
		used += step;
		if (frame.class == DIALECT_ERROR) {
			fail_in_band(r, &frame);
			return;
		}
	}
	switch (collect_feed(r->collect, p, len)) {
	case COLLECT_MORE:
		break;
	case COLLECT_DONE:
		answer_collected(r);
		break;
	case COLLECT_TOO_LARGE:
		fail_unusable(r, "The provider's answer is too large");
		break;
	}
}

static void
collect_done(struct relay *r, enum upstream_end end)
{
	if (end == UPSTREAM_COMPLETE)
		fail_unusable(r, "The provider's answer has no end");
	else
		fail_path(r, end);
}

/* ---- events of the upstream */

static const struct {
	void (*data)(struct relay *r, const char *p, size_t len);
	void (*done)(struct relay *r, enum upstream_end end);
} answers[] = {
	[ANSWER_ERROR] = { error_data, error_done },
	[ANSWER_WHOLE] = { whole_data, whole_done },
	[ANSWER_STREAM] = { stream_data, stream_done },
	[ANSWER_RAW] = { relay_pass_on, raw_done },
	[ANSWER_COLLECT] = { collect_data, collect_done },
};

static bool
starts_nocase(struct span s, struct span prefix)
{
	return s.len >= prefix.len &&
	       strncasecmp(s.p, prefix.p, prefix.len) == 0;
}

static bool
is_encoded(struct upstream_call *call)
{
	struct span coding = upstream_header_get(call, "content-encoding");

	return coding.len > 0 && !span_equal_nocase(coding, SPAN("identity"));
}

/* Of a portal or a proxy: no model answers with one. */
static bool
is_page(struct upstream_call *call)
{
	return starts_nocase(
	    upstream_header_get(call, "content-type"), SPAN("text/html"));
}

/* What the head of a 2xx answer promises. */
static enum answer_kind
kind_of(struct relay *r, enum dialect_framing *framing)
{
	struct upstream_call *call = r->attempt.call;
	struct span type = upstream_header_get(call, "content-type");
	bool json = starts_nocase(type, SPAN("application/json"));
	bool events = starts_nocase(type, SPAN("text/event-stream"));

	*framing = DIALECT_SSE;
	if (is_encoded(call))
		return ANSWER_RAW;
	if (r->attempt.collects && !json)
		return ANSWER_COLLECT;
	if (!r->attempt.collects && (events || (r->pings && type.len == 0)))
		return ANSWER_STREAM;
	*framing = DIALECT_JSON;
	return r->stream && !r->pings && json && !r->attempt.collects
		   ? ANSWER_STREAM
		   : ANSWER_WHOLE;
}

static void
begin_answer(struct relay *r)
{
	bool opened = r->state == RELAY_OPENED;
	enum dialect_framing framing;

	r->answer = kind_of(r, &framing);
	dialect_stream_init(&r->frames, r->x->route.dialect, framing);
	if (opened && r->answer != ANSWER_STREAM) {
		fail_unusable(r, "The provider did not answer with a stream");
		return;
	}
	if (r->answer == ANSWER_WHOLE && is_page(r->attempt.call)) {
		fail_unusable(r, "The provider answered with a page");
		return;
	}
	if (r->answer == ANSWER_RAW && r->attempt.collects) {
		fail_unusable(r, "The provider's answer is encoded");
		return;
	}
	relay_watch_pins(r);
	if (r->answer == ANSWER_RAW)
		relay_splice(r, relay_content_length(r), NULL, 0);
	if (r->answer == ANSWER_COLLECT) {
		r->collect = xmalloc(sizeof(*r->collect));
		collect_init(r->collect);
	}
}

static void
on_head(void *ctx, int status)
{
	struct relay *r = ctx;

	if (status == PROXY_AUTHENTICATION) {
		fail_path(r, UPSTREAM_NO_CONNECT);
		return;
	}
	r->attempt.status = status;
	if (status >= 200 && status < 300)
		begin_answer(r);
	else
		r->answer = ANSWER_ERROR;
}

static void
on_data(void *ctx, const char *p, size_t len)
{
	struct relay *r = ctx;

	bool first = r->attempt.first_us == 0;

	r->heard_us = clock_mono_us();
	if (first)
		r->attempt.first_us = r->heard_us;
	relay_read_pins(r, p, len);
	answers[r->answer].data(r, p, len);
	/* Another limit holds from the first byte on, maybe a shorter one. */
	if (first)
		relay_arm(r);
}

static void
on_done(void *ctx, enum upstream_end end, const char *detail)
{
	struct relay *r = ctx;

	r->attempt.ended = true;
	if (end != UPSTREAM_COMPLETE) {
		log_set_request(r->x->request_id);
		log_info(
		    "credential \"%s\": %s", r->attempt.credential, detail);
		log_set_request(NULL);
	}
	if (r->answer != ANSWER_NONE)
		answers[r->answer].done(r, end);
	else if (end == UPSTREAM_STALE && !r->stale_once)
		relay_stale(r);
	else
		fail_path(r, end);
}

const struct upstream_events relay_events = { on_head, on_data, on_done };
