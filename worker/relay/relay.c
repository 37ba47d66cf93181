/* SPDX-License-Identifier: MIT */
/* The life of a relay, from its exchange to the reaper, and its clock. */
#include "worker/relay/relay.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "worker/client/account.h"
#include "worker/relay/relay_core.h"

static void on_timer(evutil_socket_t fd, short what, void *arg);

/* ---- birth and death */

static struct relay *
relay_new(struct exchange *x)
{
	struct relays *rs = x->worker->relays;
	struct relay *r = spares_get(&rs->spares);

	if (r == NULL)
		return NULL;
	memset(r, 0, sizeof(*r));
	r->all = rs;
	r->worker = x->worker;
	r->x = x;
	r->begun_us = clock_mono_us();
	r->told_us = x->start_us;
	buf_init(&r->held, RELAY_HOLD);
	if (evtimer_assign(&r->timer, r->worker->base, on_timer, r) != 0) {
		spares_put(&rs->spares, r);
		return NULL;
	}
	x->relay = r;
	TAILQ_INSERT_TAIL(&rs->live, r, link);
	return r;
}

static void
relay_free(struct relay *r)
{
	relay_forget_answer(r);
	if (r->last != NULL)
		reply_clear(r->last);
	free(r->last);
	free(r->excluded);
	free(r->renewed);
	free(r->tried);
	free(r->expected);
	free(r->pin);
	free(r->asked);
	free(r->model);
	spares_put(&r->all->spares, r);
}

/* Nothing comes to it any more; its memory waits for the end of the turn. */
static void
relay_bury(struct relay *r)
{
	struct relays *rs = r->all;

	relay_close_attempt(r, ATTEMPT_CLIENT_GONE, r->attempt.status);
	relay_unpark(r);
	if (r->counted)
		(void)atomic_fetch_sub(&r->worker->slot->streams, 1);
	(void)event_del(&r->timer);
	r->state = RELAY_DONE;
	r->x = NULL;
	TAILQ_REMOVE(&rs->live, r, link);
	TAILQ_INSERT_TAIL(&rs->dead, r, link);
	event_active(&rs->reaper, EV_TIMEOUT, 0);
}

static void
reap(struct relays *rs)
{
	struct relay *r;

	while ((r = TAILQ_FIRST(&rs->dead)) != NULL) {
		TAILQ_REMOVE(&rs->dead, r, link);
		relay_free(r);
	}
}

static void
on_reap(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	reap(arg);
}

struct relays *
relays_new(struct worker *w)
{
	struct relays *rs = xcalloc(1, sizeof(*rs));

	spares_init(&rs->spares, sizeof(struct relay));
	rs->worker = w;
	TAILQ_INIT(&rs->live);
	TAILQ_INIT(&rs->dead);
	picker_init(&rs->picker, &w->store_state, &w->store_bindings, w->board,
	    w->config);
	if (event_assign(&rs->reaper, w->base, -1, 0, on_reap, rs) != 0 ||
	    !relay_late_pins_init(rs)) {
		picker_fini(&rs->picker);
		free(rs);
		return NULL;
	}
	rs->renewals = renewals_new(w);
	return rs;
}

void
relays_wake(struct relays *rs)
{
	renewals_wake(rs->renewals);
}

void
relays_free(struct relays *rs)
{
	struct relay *r;

	if (rs == NULL)
		return;
	while ((r = TAILQ_FIRST(&rs->live)) != NULL) {
		r->x->relay = NULL;
		relay_bury(r);
	}
	reap(rs);
	(void)event_del(&rs->reaper);
	relay_late_pins_fini(rs);
	renewals_free(rs->renewals);
	spares_fini(&rs->spares);
	picker_fini(&rs->picker);
	free(rs);
}

/* ---- the ends */

static struct access_line
access_line_of(const struct relay *r, int status)
{
	return (struct access_line){
		.status = status,
		.model = r->model,
		.credential = r->attempts > 0 ? r->attempt.credential : NULL,
		.session = r->source,
		.decision =
		    r->attempts > 0 ? pick_decision_name(r->decision) : NULL,
		.attempts = r->attempts,
		.provider = r->attempt.provider_id,
		.added_us = r->attempt.start_us - r->begun_us,
		.bytes = r->bytes,
		.ttft_us = r->first_us != 0 ? r->first_us - r->x->start_us : -1,
	};
}

/* The status that the client was told. */
static int
told_status(const struct relay *r)
{
	return r->state == RELAY_SPLICED ? r->attempt.status : 200;
}

static struct exchange *
detach(struct relay *r)
{
	struct exchange *x = r->x;

	x->relay = NULL;
	relay_bury(r);
	return x;
}

void
relay_answer(struct relay *r, int status, const struct header *headers,
    size_t nheaders, const void *body, size_t len)
{
	struct access_line line = access_line_of(r, status);

	line.bytes = len;
	account_request(r->x, &line);
	exchange_answer(detach(r), status, headers, nheaders, body, len);
}

void
relay_finish(struct relay *r)
{
	struct access_line line = access_line_of(r, told_status(r));

	account_request(r->x, &line);
	exchange_finish(detach(r));
}

void
relay_break(struct relay *r)
{
	struct access_line line = access_line_of(r, told_status(r));

	line.code = "broken";
	account_request(r->x, &line);
	exchange_break(detach(r));
}

void
relay_refuse(struct relay *r, enum respond_error error, int64_t retry_after_ms,
    const char *fmt, ...)
{
	struct access_line line = access_line_of(r, respond_status(error));
	char message[DIALECT_MESSAGE_MAX];
	va_list ap;

	if (fmt == NULL) {
		(void)str_copy(
		    message, sizeof(message), respond_message(error));
	} else {
		va_start(ap, fmt);
		(void)vsnprintf(message, sizeof(message), fmt, ap);
		va_end(ap);
	}
	if (r->state == RELAY_HELD) {
		(void)atomic_fetch_add(&r->worker->slot->counters.refused, 1);
		respond_error_line(
		    detach(r), error, retry_after_ms, &line, message);
		return;
	}
	relay_note(r, respond_status(error), respond_code(error), message);
	relay_tell_last(r);
}

/* ---- the clock */

static int64_t
upstream_due(const struct relay *r)
{
	const struct config *config = r->worker->config;
	const struct attempt *a = &r->attempt;

	/* While we paused it the silence is not the provider's. */
	if (!r->trying || r->paused)
		return INT64_MAX;
	if (a->first_us == 0)
		return a->wait_us + config->limits.first_byte_timeout_ms * 1000;
	return r->heard_us + config->limits.stream_idle_timeout_ms * 1000;
}

static int64_t
ping_due(const struct relay *r)
{
	int64_t interval_ms = r->worker->config->keepalive_interval_ms;

	if (!r->pings || interval_ms <= 0)
		return INT64_MAX;
	return r->told_us + interval_ms * 1000;
}

static int64_t
wake_due(const struct relay *r)
{
	return r->wake_us != 0 ? r->wake_us : INT64_MAX;
}

static int64_t
min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/*
 * Deadlines move away as bytes come, and the timer is left alone then: it
 * fires early, finds nothing due and is set again. Whoever makes one come
 * nearer calls this.
 */
void
relay_arm(struct relay *r)
{
	int64_t due_us = min(min(upstream_due(r), ping_due(r)), wake_due(r));
	int64_t left_us;
	struct timeval tv;

	if (r->state == RELAY_DONE || due_us == INT64_MAX ||
	    (r->armed_us != 0 && r->armed_us <= due_us))
		return;
	left_us = due_us - clock_mono_us();
	if (left_us < 0)
		left_us = 0;
	tv.tv_sec = left_us / 1000000;
	tv.tv_usec = left_us % 1000000;
	if (event_add(&r->timer, &tv) == 0)
		r->armed_us = due_us;
}

/* A request that is still going out is not waited for in vain. */
static bool
still_sending(struct relay *r, int64_t now_us)
{
	struct attempt *a = &r->attempt;
	size_t sent = upstream_sent_bytes(a->call);

	if (a->first_us != 0 || sent >= a->body_len || sent == a->sent_mark)
		return false;
	a->sent_mark = sent;
	a->wait_us = now_us;
	return true;
}

static void
relay_tick(struct relay *r)
{
	int64_t now_us = clock_mono_us();

	r->armed_us = 0;
	if (wake_due(r) <= now_us) {
		relay_woken(r);
	} else if (upstream_due(r) <= now_us) {
		if (!still_sending(r, now_us))
			relay_timed_out(r);
	} else if (ping_due(r) <= now_us) {
		relay_ping(r);
	}
	relay_arm(r);
}

static void
on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	relay_tick(arg);
}

/* ---- the client's side */

void
relay_start(struct exchange *x)
{
	struct relay *r = relay_new(x);

	traffic_add(&x->worker->slot->counters.requests, 1);
	if (r == NULL) {
		respond_error(x, RESPOND_OVERLOADED, NULL);
		return;
	}
	if (!relay_read_request(r))
		return;
	relay_why_begin(r);
	r->counted = r->stream;
	if (r->counted)
		(void)atomic_fetch_add(&x->worker->slot->streams, 1);
	relay_try(r);
}

void
relay_writable(struct relay *r)
{
	if (!r->paused)
		return;
	r->paused = false;
	r->heard_us = clock_mono_us();
	upstream_resume(r->attempt.call);
	relay_arm(r);
}

void
relay_client_gone(struct relay *r)
{
	bool has_all = r->state == RELAY_SPLICED &&
		       r->answer == ANSWER_STREAM &&
		       dialect_stream_complete(&r->frames);
	struct access_line line = access_line_of(
	    r, r->state == RELAY_HELD ? STATUS_CLIENT_GONE : told_status(r));

	if (r->trying && has_all)
		relay_succeeded(r);
	else
		relay_close_attempt(r, ATTEMPT_CLIENT_GONE, r->attempt.status);
	line.code = has_all ? NULL : "client_gone";
	account_request(r->x, &line);
	(void)detach(r);
}
