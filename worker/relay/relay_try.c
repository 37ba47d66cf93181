/* SPDX-License-Identifier: MIT */
/*
 * Whom to ask: picks, attempts, what a failure costs and what comes next. The
 * one place that decides about going on is next_step().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/dialect/dialect.h"
#include "worker/relay/outgoing.h"
#include "worker/relay/relay_core.h"

/*
 * Pauses before the same credential is asked again over a path that it shares:
 * a network that is away for two seconds is waited for, a dead one is not.
 */
static const int pauses_ms[] = { 100, 200, 400, 800, 1500 };

/* Like what a pool that is cooling is told as. */
enum { TOO_MANY_REQUESTS = 429 };

/* Of an attempt to start one, beside 0 and negative errno. */
enum { START_NEXT = 1 };

/* ---- booking */

/* What went wrong, in words that repeat no secret. */
static void
describe_failure(const struct relay *r, char text[DIALECT_MESSAGE_MAX + 1])
{
	const char *secret = r->attempt.secret;
	size_t len = 0;

	if (r->last != NULL &&
	    (secret[0] == '\0' || strstr(r->last->message, secret) == NULL))
		len = dialect_clean_message(r->last->message, text);
	text[len] = '\0';
}

static void
write_usage(struct relay *r, enum attempt_end end, int status)
{
	struct attempt *a = &r->attempt;
	bool failed = end != ATTEMPT_OK && end != ATTEMPT_CLIENT_GONE;
	char error[DIALECT_MESSAGE_MAX + 1] = "";
	struct tokens tokens;
	struct usage_end e = {
		.time_s = time(NULL),
		.status = status,
		.failed = failed,
		.outcome = outcome_end_name(end),
		.error = error,
		.latency_us = clock_mono_us() - a->start_us,
		.ttft_us = a->first_us != 0 ? a->first_us - a->start_us : -1,
	};

	if (failed)
		describe_failure(r, error);
	/* Only what is taken for an answer was read. */
	if (r->answer != ANSWER_NONE && r->answer != ANSWER_ERROR &&
	    dialect_stream_tokens(&r->frames, &tokens))
		e.tokens = &tokens;
	traffic_add(
	    &r->worker->slot->counters.traffic.attempts[a->provider_id][end],
	    1);
	usage_write(a, &e);
}

void
relay_close_attempt(struct relay *r, enum attempt_end end, int status)
{
	if (!r->trying)
		return;
	r->trying = false;
	write_usage(r, end, status);
	relay_why_ended(r, end, status, clock_mono_us() - r->attempt.start_us);
	attempt_end(&r->attempt);
}

void
relay_succeeded(struct relay *r)
{
	attempt_credit(&r->attempt);
	relay_close_attempt(r, ATTEMPT_OK, r->attempt.status);
}

/* Somebody who may serve is back then; 0: that is not known. */
static void
note_return(struct relay *r, int64_t until_ms)
{
	if (until_ms > 0 && (r->retry_at_ms == 0 || until_ms < r->retry_at_ms))
		r->retry_at_ms = until_ms;
}

/* ---- asking */

static void
exclude(struct relay *r, uint32_t slot)
{
	xgrow(
	    &r->excluded, &r->excluded_cap, r->nexcluded, sizeof(*r->excluded));
	r->excluded[r->nexcluded++] = slot;
}

/* ---- a new token first */

static void ask_same(struct relay *r);

static bool
was_renewed(const struct relay *r, uint32_t slot)
{
	for (size_t i = 0; i < r->nrenewed; i++)
		if (r->renewed[i] == slot)
			return true;
	return false;
}

static void
wait_for_token(struct relay *r, const struct renewal_token *token,
    void (*done)(struct renewal_wait *wait, bool renewed))
{
	xgrow(&r->renewed, &r->renewed_cap, r->nrenewed, sizeof(*r->renewed));
	r->renewed[r->nrenewed++] = token->slot;
	renewal_wait(r->all->renewals, token, &r->renewal, done);
	relay_arm(r);
}

static struct relay *
relay_of(struct renewal_wait *wait)
{
	return (struct relay *)(void *)((char *)wait -
					offsetof(struct relay, renewal));
}

/* The credential that was chosen is asked, whatever token it has now. */
static void
on_token_due(struct renewal_wait *wait, bool renewed UNUSED)
{
	ask_same(relay_of(wait));
}

/* It has expired: nobody is asked with it before there is another. */
static void
wait_before(struct relay *r, const struct state_credential *c)
{
	struct attempt *a = &r->attempt;

	renewal_token_of(&a->token, c);
	(void)str_copy(
	    a->credential, sizeof(a->credential), state_string(c, c->id));
	a->slot = c->slot;
	a->incarnation = c->incarnation;
	wait_for_token(r, &a->token, on_token_due);
}

static int
start(struct relay *r, const struct state_credential *c,
    const struct state_model *m)
{
	struct attempt_ask ask = {
		.x = r->x,
		.credential = c,
		.model = m,
		.asked = span_of(r->asked),
		.canonical = r->model,
		.session = r->session_short,
		.places = &r->places,
		.stream = r->stream,
		.unseal = r->unsealed,
		.number = r->attempts + 1,
	};
	int rc;

	if (renewal_is_due(c) && !was_renewed(r, c->slot)) {
		wait_before(r, c);
		return 0;
	}
	rc = attempt_start(&r->attempt, &ask, &relay_events, r);
	if (rc == OUTGOING_NO_PATH)
		return START_NEXT;
	if (rc == -EINVAL) {
		log_error("credential \"%s\": its URL or proxy cannot be used",
		    state_string(c, c->id));
		return START_NEXT;
	}
	if (rc != 0)
		return rc;
	r->pooled = state_pool_size(c, state_credential_model(c, m->hash)) > 1;
	r->trying = true;
	r->attempts++;
	relay_why_attempt(r);
	relay_forget_answer(r);
	relay_arm(r);
	return 0;
}

/*
 * How long the request would still wait for the credential that it is pinned
 * or its session is bound to: session-affinity-wait in all, from the first time
 * that it has to.
 */
static int64_t
patience_left_ms(const struct relay *r, int64_t now_ms)
{
	const struct config *config = r->worker->config;

	if (r->pin == NULL && (!config->routing.session_affinity ||
				  !r->has_session || r->unbound))
		return 0;
	if (r->patience_ms == 0)
		return config->routing.session_affinity_wait_ms;
	return r->patience_ms > now_ms ? r->patience_ms - now_ms : 0;
}

/* Picks again when the bound credential is back. */
static void
await_bound(struct relay *r, int64_t until_ms)
{
	int64_t now_ms = clock_now_ms();

	if (r->patience_ms == 0)
		r->patience_ms =
		    now_ms +
		    r->worker->config->routing.session_affinity_wait_ms;
	relay_wake_in(r, WAKE_PICK, until_ms > now_ms ? until_ms - now_ms : 0);
}

/* One pick and the start of its attempt: 0, START_NEXT or what pick said. */
static int
pick_and_start(
    struct relay *r, int64_t *until_ms, enum pick_why *why, int *refusal)
{
	const struct exchange *x = r->x;
	bool session = r->has_session && !r->unbound;
	int64_t now_ms = clock_now_ms();
	struct pick_ask ask = {
		.model = r->model,
		.model_len = strlen(r->model),
		.dialect = x->route.dialect,
		.dialects = DIALECT_BIT(x->route.dialect),
		.session = session ? &r->session : NULL,
		.alias = session && r->has_alias ? &r->alias : NULL,
		.parent = session && r->has_parent ? &r->parent : NULL,
		.source = r->source,
		.session_short = r->session_short,
		.excluded = r->excluded,
		.nexcluded = r->nexcluded,
		.tried = r->tried,
		.ntried = r->ntried,
		.stay = r->stays ? r->attempt.credential : NULL,
		.stay_only = r->stays,
		.expected = r->expected,
		.round = r->round,
		.request_retry = r->worker->config->request_retry,
		.pin = r->pin,
		.hard_pin = r->worker->config->routing.hard_pins,
		.now_ms = now_ms,
		.wait_ms = patience_left_ms(r, now_ms),
	};
	struct pick p;
	int rc = pick_begin(&p, &r->all->picker, &ask);

	*refusal = rc;
	if (rc >= 0)
		relay_why_picked(r, &p, rc == PICK_OK);
	if (rc == PICK_OK) {
		rc = start(r, p.credential, p.model);
		if (rc == START_NEXT)
			exclude(r, p.credential->slot);
	} else if (rc > 0) {
		*until_ms = p.until_ms;
		*why = p.pin_why;
		rc = 0;
	}
	pick_end(&p);
	return rc;
}

static void
fail_to_start(struct relay *r, int rc)
{
	log_set_request(r->x->request_id);
	log_error_e(rc, "cannot send a request for model \"%s\"", r->model);
	log_set_request(NULL);
	if (rc == -E2BIG)
		relay_refuse(r, RESPOND_HEAD_TOO_LARGE, RESPOND_NO_RETRY, NULL);
	else
		relay_refuse(r,
		    rc == -ENOMEM ? RESPOND_OVERLOADED : RESPOND_INTERNAL,
		    RESPOND_NO_RETRY, NULL);
}

/* The round is over. One in which nobody was asked ended like a 429. */
static void
nobody_left(struct relay *r, int refusal, int64_t until_ms)
{
	int status = refusal == PICK_COOLING ? TOO_MANY_REQUESTS : 0;

	if (relay_next_round(r, r->last != NULL ? r->failed_status : status))
		return;
	if (refusal == PICK_COOLING || refusal == PICK_BLOCKED)
		relay_warn_nobody(r);
	note_return(r, until_ms);
	if (r->last != NULL)
		relay_tell_last(r);
	else
		relay_refuse_pick(r, refusal, until_ms);
}

void
relay_try(struct relay *r)
{
	enum pick_why why = PICK_WHY_MAX;
	int64_t until_ms = 0;
	int refusal;
	int rc;

	do
		rc = pick_and_start(r, &until_ms, &why, &refusal);
	while (rc == START_NEXT);
	if (rc < 0)
		fail_to_start(r, rc);
	else if (refusal == PICK_PINNED)
		relay_refuse_pinned(
		    r, why, until_ms > 0 ? until_ms : r->retry_at_ms);
	else if (refusal == PICK_WAIT)
		await_bound(r, until_ms);
	else if (refusal != PICK_OK)
		nobody_left(r, refusal, until_ms);
}

/* Whether it may serve still; it was chosen before, so only what changes. */
static bool
still_serves(struct relay *r, const struct state_credential *c,
    const struct state_model *m)
{
	struct board *board = r->worker->board;
	int64_t now_ms = clock_now_ms();

	return m != NULL && c->slot < BOARD_CREDENTIALS &&
	       m->cell < BOARD_CELLS &&
	       c->incarnation == r->attempt.incarnation &&
	       (c->flags & (STATE_DISABLED | STATE_PROXY_INVALID)) == 0 &&
	       !board_cell_barred(
		   &board->credentials[c->slot].cell, c->incarnation, now_ms) &&
	       !board_cell_barred(
		   &board->cells[m->cell], c->incarnation, now_ms);
}

/* Of a pool the same upstream model as before. */
static const struct state_model *
same_model(const struct relay *r, const struct state_credential *c)
{
	const struct state_model *m = state_credential_model(
	    c, state_model_hash(r->model, strlen(r->model)));
	size_t n = m != NULL ? state_pool_size(c, m) : 0;

	for (size_t i = 0; i < n; i++)
		if (m[i].cell == r->attempt.cell)
			return &m[i];
	return m;
}

static int
start_same(struct relay *r)
{
	struct store *store = &r->worker->store_state;
	const struct state_credential *c;
	const struct state_model *m;
	char id[BINDING_ID_MAX];
	MDB_txn *txn;
	int rc = store_read(store, &txn);

	if (rc != 0)
		return rc;
	memcpy(id, r->attempt.credential, sizeof(id));
	rc = state_get_credential(store, txn, id, &c);
	if (rc == 0) {
		m = same_model(r, c);
		rc = still_serves(r, c, m) ? start(r, c, m) : START_NEXT;
	}
	store_read_end(store);
	return rc;
}

static void
ask_same(struct relay *r)
{
	if (start_same(r) != 0)
		relay_try(r);
}

void
relay_woken(struct relay *r)
{
	r->wake_us = 0;
	switch (r->wake) {
	case WAKE_SAME:
		ask_same(r);
		break;
	case WAKE_PICK:
		relay_try(r);
		break;
	}
}

void
relay_wake_in(struct relay *r, enum relay_wake wake, int64_t ms)
{
	r->wake = wake;
	r->wake_us = clock_mono_us() + ms * 1000;
	relay_arm(r);
}

void
relay_stale(struct relay *r)
{
	r->stale_once = true;
	r->trying = false;
	r->attempts--;
	relay_why_stale(r);
	attempt_end(&r->attempt);
	ask_same(r);
}

/* ---- going on */

enum next {
	NEXT_WAIT,  /* the same one, which is back soon */
	NEXT_TELL,  /* the client is told r->last */
	NEXT_OTHER, /* another credential is asked, in this round */
	NEXT_AGAIN, /* the same one, after a pause */
	NEXT_ROUND  /* the round is over; there may be another */
};

/*
 * The one place that decides what follows a failure. The first row that holds
 * counts. A round is over, too, when nobody is left to be asked in it, which
 * only the pick finds out: nobody_left().
 */
static enum next
next_step(const struct relay *r, const struct outcome *o, int64_t until_ms)
{
	const struct config *config = r->worker->config;
	unsigned most = (unsigned)config->max_retry_credentials;
	int64_t now_ms = clock_now_ms();

	if (o->action == OUTCOME_PASS_ON)
		return NEXT_TELL;
	if (r->attempts >= (unsigned)config->max_attempts)
		return NEXT_TELL;
	if (o->action == OUTCOME_AGAIN && r->pauses < ARRAY_LEN(pauses_ms))
		return NEXT_AGAIN;
	if (o->action == OUTCOME_AGAIN)
		return NEXT_TELL;
	if (r->pin != NULL && config->routing.hard_pins)
		return NEXT_OTHER; /* of whom there is none */
	if (until_ms > now_ms &&
	    until_ms <= now_ms + patience_left_ms(r, now_ms))
		return NEXT_WAIT;
	if (most > 0 && r->spent + 1 >= most)
		return NEXT_ROUND;
	return NEXT_OTHER;
}

/* Counts the credential as used up in this round. */
static void
leave_credential(struct relay *r, const struct outcome *o)
{
	exclude(r, r->attempt.slot);
	r->spent++;
	free(r->expected);
	r->expected = NULL;
	if (o->reason != COOL_NONE)
		r->expected = xstrdup(r->attempt.credential);
	else
		r->unbound = true;
}

void
relay_release_session(struct relay *r, const struct outcome *o)
{
	struct worker *w = r->worker;
	const struct binding_key *keys[] = {
		&r->session,
		r->has_alias ? &r->alias : NULL,
	};

	if (o->reason == COOL_NONE || !r->has_session || r->unbound ||
	    !w->config->routing.session_affinity)
		return;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (keys[i] != NULL &&
		    bindings_unbind(&w->store_bindings, w->board, keys[i],
			r->attempt.credential, PICK_LOCK_WAIT_MS) < 0)
			log_warn("cannot unbind a session");
}

/* Another upstream model of the same credential; whether there is one. */
static bool
ask_pool(struct relay *r)
{
	enum pick_why why;
	int64_t until_ms;
	int refusal = PICK_EXHAUSTED;
	int rc;

	xgrow(&r->tried, &r->tried_cap, r->ntried, sizeof(*r->tried));
	r->tried[r->ntried++] = r->attempt.cell;
	r->stays = true;
	rc = pick_and_start(r, &until_ms, &why, &refusal);
	r->stays = false;
	return rc == 0 && refusal == PICK_OK;
}

static void
go_on(struct relay *r, const struct outcome *o, int64_t until_ms)
{
	enum next next = next_step(r, o, until_ms);

	if (r->pooled && next != NEXT_TELL && next != NEXT_AGAIN && ask_pool(r))
		return;
	if (next == NEXT_OTHER || next == NEXT_ROUND)
		leave_credential(r, o);
	switch (next) {
	case NEXT_WAIT:
		/* Any of its pool may serve then, those that failed too. */
		r->ntried = 0;
		await_bound(r, until_ms);
		break;
	case NEXT_TELL:
		relay_release_session(r, o);
		relay_tell_last(r);
		break;
	case NEXT_OTHER:
		relay_try(r);
		break;
	case NEXT_AGAIN:
		relay_wake_in(r, WAKE_SAME, pauses_ms[r->pauses++]);
		break;
	case NEXT_ROUND:
		if (!relay_next_round(r, r->failed_status))
			relay_tell_last(r);
		break;
	}
}

/* Returns when the credential is back, 0 if it was not benched. */
static int64_t
charge(struct relay *r, int status, const struct outcome *o)
{
	int64_t until_ms;

	log_set_request(r->x->request_id);
	attempt_charge_as(&r->attempt, status, o, &until_ms);
	log_set_request(NULL);
	r->last_at_ms = until_ms;
	note_return(r, until_ms);
	return until_ms;
}

void
relay_unpark(struct relay *r)
{
	renewal_leave(&r->renewal);
	if (r->parked)
		attempt_end(&r->attempt);
	r->parked = false;
}

/* With a new token it is asked again; without, its refusal counts. */
static void
on_token(struct renewal_wait *wait, bool renewed)
{
	struct relay *r = relay_of(wait);
	struct outcome o = r->refusal;
	int64_t until_ms = 0;

	if (!renewed)
		until_ms = charge(r, r->failed_status, &o);
	relay_unpark(r);
	if (renewed)
		ask_same(r);
	else
		go_on(r, &o, until_ms);
}

/* Its token was refused, and there may be another that is not. */
static bool
may_renew(const struct relay *r, const struct outcome *o)
{
	return o->reason == COOL_UNAUTHORIZED && r->attempt.renewable &&
	       !was_renewed(r, r->attempt.slot) &&
	       r->attempts < (unsigned)r->worker->config->max_attempts;
}

static void
park(struct relay *r, const struct failure *f, const struct outcome *o)
{
	r->parked = true;
	r->refusal = *o;
	r->trying = false;
	write_usage(r, f->end, f->status);
	attempt_stop(&r->attempt);
	relay_forget_answer(r);
	wait_for_token(r, &r->attempt.token, on_token);
}

void
relay_failed(struct relay *r, const struct failure *f)
{
	struct outcome o;
	int64_t until_ms;

	if (relay_unseal(r, f))
		return;
	o = attempt_judge(&r->attempt, f);
	log_set_request(r->x->request_id);
	log_info("attempt %u with credential \"%s\" failed: %s, status %d",
	    r->attempt.number, r->attempt.credential, outcome_end_name(f->end),
	    f->status);
	log_set_request(NULL);
	r->failed_status = f->status;
	if (may_renew(r, &o)) {
		park(r, f, &o);
		return;
	}
	until_ms = charge(r, f->status, &o);
	relay_why_failed(r, f);
	relay_close_attempt(r, f->end, f->status);
	relay_forget_answer(r);
	go_on(r, &o, until_ms);
}
