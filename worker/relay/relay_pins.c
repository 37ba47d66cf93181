/* SPDX-License-Identifier: MIT */
/*
 * State that only one account can read: what a request brings back of it and
 * which credential that pins, and what an answer gives out of it, which is
 * pinned before the client has it.
 */
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/pins.h"
#include "worker/relay/relay_core.h"

static const char turn_state[] = "x-codex-turn-state";

static const struct digest *
scope_of(const struct relay *r)
{
	return r->x->has_scope ? &r->x->scope : NULL;
}

/* ---- what the request brings */

static struct span
inside_quotes(const struct facts *f, const struct json_value *v)
{
	if (v->type != JSON_STRING)
		return (struct span){ NULL, 0 };
	return (struct span){ f->body + v->at + 1, v->len - 2 };
}

/* Reads a pin; a failure to read is no pin. */
static bool
read_pin(struct relay *r, struct pin *pin)
{
	struct store *s = &r->worker->store_bindings;
	MDB_txn *txn;
	int rc;

	if (store_read(s, &txn) < 0)
		return false;
	rc = pins_get(s, txn, &r->pin_key, clock_now_ms(), pin);
	store_read_end(s);
	return rc == 0;
}

/* One that is used lives on. A touch in vain is due again the next time. */
static void
keep_alive(struct relay *r, const struct pin *pin)
{
	int64_t ttl_ms = r->all->picker.ttl_ms;
	int64_t now_ms = clock_now_ms();

	if (pins_touch_due(pin, ttl_ms, now_ms))
		(void)!pins_put(&r->worker->store_bindings, r->worker->board,
		    &r->pin_key, 1, pin->credential, ttl_ms, now_ms,
		    PICK_LOCK_WAIT_MS);
}

void
relay_take_pin(struct relay *r, const struct facts *f)
{
	/* What says most about this very request comes first. */
	const struct {
		enum pin_kind kind;
		struct span token;
	} brought[] = {
		{ PIN_RESPONSE,
		    inside_quotes(f, &f->field[FACTS_PREVIOUS_RESPONSE_ID]) },
		{ PIN_COMPACTION, inside_quotes(f, &f->compaction) },
		{ PIN_TURN_STATE, http_head_get(&r->x->head, turn_state) },
	};
	struct digest token;
	struct pin pin;

	if (r->x->route.dialect != DIALECT_RESPONSES)
		return;
	r->sealed = f->sealed_reasoning;
	for (size_t i = 0; i < ARRAY_LEN(brought) && r->pin == NULL; i++) {
		if (brought[i].token.len == 0)
			continue;
		pin_token_digest(
		    brought[i].token.p, brought[i].token.len, &token);
		pin_key_make(&r->pin_key, scope_of(r), brought[i].kind, &token);
		if (!read_pin(r, &pin))
			continue;
		r->pin_kind = brought[i].kind;
		r->pin = xstrdup(pin.credential);
		keep_alive(r, &pin);
	}
}

/* ---- what the answer gives */

/* Beyond, they are pinned as they come. */
static void
add_found(struct relay *r, enum pin_kind kind, const struct digest *token)
{
	if (r->nfound == RELAY_PINS_MAX)
		relay_commit_pins(r);
	pin_key_make(&r->found[r->nfound++], scope_of(r), kind, token);
}

static void
on_found(void *ctx, enum pin_kind kind, const struct digest *token)
{
	add_found(ctx, kind, token);
}

void
relay_watch_pins(struct relay *r)
{
	struct span state;
	struct digest token;

	if (r->x->route.dialect != DIALECT_RESPONSES)
		return;
	state = upstream_header_get(r->attempt.call, turn_state);
	if (state.len > 0) {
		pin_token_digest(state.p, state.len, &token);
		add_found(r, PIN_TURN_STATE, &token);
	}
	if (r->answer == ANSWER_RAW)
		return;
	r->scan = xmalloc(sizeof(*r->scan));
	pin_scan_init(r->scan, r->answer != ANSWER_WHOLE, on_found, r);
}

void
relay_read_pins(struct relay *r, const char *p, size_t len)
{
	if (r->scan != NULL)
		pin_scan_feed(r->scan, p, len);
}

/* ---- what could not be put in time */

enum { LATE_RETRY_MS = 20, LATE_MAX = 16384 };

struct late_pins {
	STAILQ_ENTRY(late_pins) link;
	struct pin_key keys[RELAY_PINS_MAX];
	size_t n;
	char credential[];
};

static int
put_pins(struct relays *rs, const struct pin_key *keys, size_t n,
    const char *credential, int wait_ms)
{
	return pins_put(&rs->worker->store_bindings, rs->worker->board, keys, n,
	    credential, rs->picker.ttl_ms, clock_now_ms(), wait_ms);
}

static void
arm_late(struct relays *rs)
{
	const struct timeval delay = { 0, LATE_RETRY_MS * 1000 };

	if (!evtimer_pending(&rs->late_timer, NULL))
		(void)evtimer_add(&rs->late_timer, &delay);
}

/* In the order they were told in, until the lock is not to be had. */
static void
put_late(struct relays *rs, int wait_ms)
{
	struct late_pins *late;
	int rc;

	while ((late = STAILQ_FIRST(&rs->late)) != NULL) {
		rc = put_pins(
		    rs, late->keys, late->n, late->credential, wait_ms);
		if (rc == PINS_BUSY)
			return;
		if (rc < 0)
			log_debug("%zu pins to credential \"%s\" are lost: %s",
			    late->n, late->credential, strerror(-rc));
		STAILQ_REMOVE_HEAD(&rs->late, link);
		rs->nlate--;
		free(late);
	}
}

static void
on_late(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct relays *rs = arg;

	put_late(rs, 0);
	if (rs->nlate > 0)
		arm_late(rs);
}

bool
relay_late_pins_init(struct relays *rs)
{
	STAILQ_INIT(&rs->late);
	return evtimer_assign(&rs->late_timer, rs->worker->base, on_late, rs) ==
	       0;
}

void
relay_late_pins_fini(struct relays *rs)
{
	struct late_pins *late;

	(void)event_del(&rs->late_timer);
	put_late(rs, PICK_LOCK_WAIT_MS);
	while ((late = STAILQ_FIRST(&rs->late)) != NULL) {
		STAILQ_REMOVE_HEAD(&rs->late, link);
		free(late);
	}
}

static void
put_later(struct relay *r)
{
	const char *credential = r->attempt.credential;
	size_t size = strlen(credential) + 1;
	struct relays *rs = r->all;
	struct late_pins *late;

	if (rs->nlate == LATE_MAX) {
		log_debug("%zu pins to credential \"%s\" are lost: too many "
			  "wait for the lock",
		    r->nfound, credential);
		return;
	}
	late = xmalloc(sizeof(*late) + size);
	memcpy(late->keys, r->found, r->nfound * sizeof(r->found[0]));
	late->n = r->nfound;
	memcpy(late->credential, credential, size);
	STAILQ_INSERT_TAIL(&rs->late, late, link);
	rs->nlate++;
	arm_late(rs);
}

/* When the lock is not to be had the answer does not wait. */
void
relay_commit_pins(struct relay *r)
{
	int rc;

	if (r->nfound == 0)
		return;
	rc = put_pins(r->all, r->found, r->nfound, r->attempt.credential,
	    PICK_LOCK_WAIT_MS);
	if (rc == PINS_BUSY)
		put_later(r);
	else if (rc < 0)
		log_debug("%zu pins to credential \"%s\" are lost: %s",
		    r->nfound, r->attempt.credential, strerror(-rc));
	r->nfound = 0;
}

void
relay_forget_pins(struct relay *r)
{
	r->nfound = 0;
	if (r->scan != NULL)
		pin_scan_fini(r->scan);
	free(r->scan);
	r->scan = NULL;
}

/* ---- when it cannot be read */

void
relay_refuse_pinned(struct relay *r, enum pick_why why, int64_t until_ms)
{
	int64_t left_ms = until_ms - clock_now_ms();
	bool failed = why == PICK_WHY_EXCLUDED && r->last != NULL;
	char when[64] = "";

	if (until_ms <= 0)
		left_ms = RESPOND_NO_RETRY;
	else if (left_ms < 0)
		left_ms = 0;
	if (left_ms >= 0)
		(void)snprintf(when, sizeof(when), "; it is back in %lld s",
		    (long long)respond_retry_seconds(left_ms));
	relay_refuse(r, RESPOND_PINNED_UNAVAILABLE, left_ms,
	    "Only the account that gave out this %s can read it, and it cannot "
	    "serve now (%s%s%s)%s",
	    pin_kind_name(r->pin_kind), pick_why_name(why), failed ? ": " : "",
	    failed ? r->last->message : "", when);
}

bool
relay_unseal(struct relay *r, const struct failure *f)
{
	if (!r->sealed || r->unsealed || !outcome_is_sealed(f) ||
	    r->attempts >= (unsigned)r->worker->config->max_attempts)
		return false;
	r->unsealed = true;
	log_info("credential \"%s\" cannot read the encrypted reasoning of the "
		 "conversation: sent again without",
	    r->attempt.credential);
	relay_close_attempt(r, f->end, f->status);
	relay_forget_answer(r);
	relay_wake_in(r, WAKE_SAME, 0);
	return true;
}
