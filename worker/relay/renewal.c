/* SPDX-License-Identifier: MIT */
/* Waiting for new tokens; see renewal.h. */
#include "worker/relay/renewal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/str.h"
#include "worker/control.h"
#include "worker/worker.h"

/* So many go on in one turn of the event loop. */
enum { RELEASED_PER_TURN = 32 };

TAILQ_HEAD(waits, renewal_wait);

/* A token that is waited for. */
struct renewal {
	TAILQ_ENTRY(renewal) link;
	struct renewals *all;
	struct renewal_token token;
	int64_t asked_us; /* 0: not yet */
	struct waits waits;
};

struct renewals {
	struct worker *worker;
	TAILQ_HEAD(, renewal) list;
	struct renewal released; /* its waits have their answer */
	struct event timer, turn;
};

static int64_t
wall_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

bool
renewal_is_due(const struct state_credential *c)
{
	return (c->flags & STATE_REFRESHABLE) != 0 && c->expires_ms != 0 &&
	       c->expires_ms <= wall_ms() &&
	       c->refresh_barred_ms <= clock_now_ms();
}

void
renewal_token_of(struct renewal_token *token, const struct state_credential *c)
{
	(void)str_copy(token->credential, sizeof(token->credential),
	    state_string(c, c->id));
	token->slot = c->slot;
	token->incarnation = c->incarnation;
	token->generation = c->token_generation;
}

/* ---- what the record says */

enum verdict { WAIT_ON, RENEWED, NOT_RENEWED };

static enum verdict
judge(const struct renewal_token *t, const struct state_credential *c)
{
	if (c->slot != t->slot || c->incarnation != t->incarnation ||
	    (c->flags & STATE_DISABLED) != 0)
		return NOT_RENEWED;
	if (c->token_generation != t->generation)
		return RENEWED;
	return c->refresh_barred_ms > clock_now_ms() ? NOT_RENEWED : WAIT_ON;
}

static enum verdict
look(const struct renewal *rn)
{
	struct store *store = &rn->all->worker->store_state;
	const struct state_credential *c;
	enum verdict verdict = WAIT_ON;
	MDB_txn *txn;
	int rc = store_read(store, &txn);

	if (rc != 0)
		return WAIT_ON;
	rc = state_get_credential(store, txn, rn->token.credential, &c);
	if (rc == 0)
		verdict = judge(&rn->token, c);
	else if (rc == -ENOENT)
		verdict = NOT_RENEWED;
	store_read_end(store);
	return verdict;
}

static void
ask(struct renewal *rn)
{
	const struct ipc_refresh refresh = {
		.credential = rn->token.slot,
		.incarnation = rn->token.incarnation,
		.token_generation = rn->token.generation,
	};
	int64_t now_us = clock_mono_us();

	if (rn->asked_us != 0 &&
	    now_us - rn->asked_us < RENEWAL_ASK_MS * INT64_C(1000))
		return;
	rn->asked_us = now_us;
	control_send_need_refresh(rn->all->worker, &refresh);
}

/* ---- letting go */

static void
release(struct renewal_wait *wait, bool renewed)
{
	struct renewals *rs = wait->renewal->all;

	TAILQ_REMOVE(&wait->renewal->waits, wait, link);
	TAILQ_INSERT_TAIL(&rs->released.waits, wait, link);
	wait->renewal = &rs->released;
	wait->renewed = renewed;
	event_active(&rs->turn, EV_TIMEOUT, 0);
}

static void
release_some(struct renewals *rs)
{
	struct renewal_wait *wait;

	for (int i = 0; i < RELEASED_PER_TURN; i++) {
		wait = TAILQ_FIRST(&rs->released.waits);
		if (wait == NULL)
			return;
		renewal_leave(wait);
		wait->done(wait, wait->renewed);
	}
	/* A loop that is never idle would keep others from their turn. */
	(void)event_add(&rs->turn, &(struct timeval){ 0 });
}

static void
on_turn(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	release_some(arg);
}

void
renewal_leave(struct renewal_wait *wait)
{
	if (wait->renewal == NULL)
		return;
	TAILQ_REMOVE(&wait->renewal->waits, wait, link);
	wait->renewal = NULL;
}

/* ---- looking */

static void
release_late(struct renewal *rn)
{
	int64_t now_us = clock_mono_us();
	struct renewal_wait *wait;

	/* They came in the order of their deadlines. */
	while ((wait = TAILQ_FIRST(&rn->waits)) != NULL &&
	       wait->until_us <= now_us)
		release(wait, false);
}

static void
renewal_look(struct renewal *rn)
{
	enum verdict verdict = look(rn);
	struct renewal_wait *wait;

	if (verdict == WAIT_ON) {
		ask(rn);
		release_late(rn);
	} else {
		while ((wait = TAILQ_FIRST(&rn->waits)) != NULL)
			release(wait, verdict == RENEWED);
	}
}

static void
arm(struct renewals *rs)
{
	const struct timeval tv = { .tv_usec = RENEWAL_LOOK_MS * 1000 };

	if (!TAILQ_EMPTY(&rs->list) &&
	    !event_pending(&rs->timer, EV_TIMEOUT, NULL))
		(void)event_add(&rs->timer, &tv);
}

void
renewals_wake(struct renewals *rs)
{
	struct renewal *rn = TAILQ_FIRST(&rs->list);

	while (rn != NULL) {
		struct renewal *next = TAILQ_NEXT(rn, link);

		if (!TAILQ_EMPTY(&rn->waits))
			renewal_look(rn);
		if (TAILQ_EMPTY(&rn->waits)) {
			TAILQ_REMOVE(&rs->list, rn, link);
			free(rn);
		}
		rn = next;
	}
	arm(rs);
}

static void
on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	renewals_wake(arg);
}

/* ---- waiting */

static struct renewal *
find(struct renewals *rs, const struct renewal_token *token)
{
	struct renewal *rn;

	TAILQ_FOREACH (rn, &rs->list, link) {
		if (rn->token.slot == token->slot &&
		    rn->token.incarnation == token->incarnation &&
		    rn->token.generation == token->generation)
			return rn;
	}
	rn = xcalloc(1, sizeof(*rn));
	rn->all = rs;
	rn->token = *token;
	TAILQ_INIT(&rn->waits);
	TAILQ_INSERT_TAIL(&rs->list, rn, link);
	return rn;
}

void
renewal_wait(struct renewals *rs, const struct renewal_token *token,
    struct renewal_wait *wait, void (*done)(struct renewal_wait *, bool))
{
	struct renewal *rn = find(rs, token);

	wait->renewal = rn;
	wait->done = done;
	wait->until_us = clock_mono_us() + RENEWAL_WAIT_MS * INT64_C(1000);
	TAILQ_INSERT_TAIL(&rn->waits, wait, link);
	/* The caller may be reading; the others wait for the next look. */
	if (rn->asked_us == 0)
		(void)event_add(&rs->timer, &(struct timeval){ 0 });
	else
		arm(rs);
}

struct renewals *
renewals_new(struct worker *w)
{
	struct renewals *rs = xcalloc(1, sizeof(*rs));

	rs->worker = w;
	TAILQ_INIT(&rs->list);
	TAILQ_INIT(&rs->released.waits);
	rs->released.all = rs;
	(void)evtimer_assign(&rs->timer, w->base, on_timer, rs);
	(void)evtimer_assign(&rs->turn, w->base, on_turn, rs);
	return rs;
}

void
renewals_free(struct renewals *rs)
{
	struct renewal *rn;

	if (rs == NULL)
		return;
	while ((rn = TAILQ_FIRST(&rs->list)) != NULL) {
		TAILQ_REMOVE(&rs->list, rn, link);
		free(rn);
	}
	(void)event_del(&rs->timer);
	(void)event_del(&rs->turn);
	free(rs);
}
