/* SPDX-License-Identifier: MIT */
/*
 * What is said when nobody can be asked: to the client how many credentials
 * stand how, never which; to the log, now and then, which and why.
 */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "worker/relay/relay_core.h"
#include "worker/select/survey.h"

/* In one line of the log; a line a model and worker in this time. */
enum { LISTED = 8, LIST_MAX = 1024, QUIET_US = 10 * 1000 * 1000 };

/* How the candidates stand. */
struct standing {
	size_t counts[SURVEY_STATES];
	size_t total;
	int64_t now_ms;
	struct buf *list; /* NULL: not wanted */
};

static int
stop_at_first(void *ctx UNUSED, const struct state_route *route UNUSED)
{
	return 1;
}

/* Nothing at all is routed: the pool is empty. */
static bool
pool_is_empty(struct worker *w)
{
	MDB_txn *txn;
	int rc = store_read(&w->store_state, &txn);

	if (rc != 0)
		return false;
	rc = state_each_route(&w->store_state, txn, stop_at_first, NULL);
	store_read_end(&w->store_state);
	return rc == 0;
}

static void
list_member(struct standing *s, const struct survey_member *m)
{
	buf_printf(s->list, "%s%s (", s->list->len > 0 ? ", " : "", m->id);
	if (m->until_ms > 0)
		buf_printf(s->list, "%s, %lld s)", board_reason_name(m->reason),
		    (long long)respond_retry_seconds(m->until_ms - s->now_ms));
	else
		buf_printf(s->list, "%s)", survey_state_name(m->state));
}

static bool
on_standing(void *ctx, const struct survey_member *m)
{
	struct standing *s = ctx;

	s->counts[m->state]++;
	if (s->list != NULL && m->state != SURVEY_READY && s->total < LISTED)
		list_member(s, m);
	s->total++;
	return true;
}

static void
look_around(struct relay *r, struct standing *s)
{
	struct survey_ask ask = {
		.state = &r->worker->store_state,
		.board = r->worker->board,
		.model = r->model,
		.dialects = DIALECT_BIT(r->x->route.dialect),
		.now_ms = s->now_ms,
	};
	int rc = survey(&ask, on_standing, s);

	if (rc < 0)
		log_error_e(
		    rc, "cannot look at who serves model \"%s\"", r->model);
}

/* "2 cooling, 1 blocked" */
static void
describe(const struct standing *s, char *out, size_t size)
{
	size_t len = 0;

	(void)str_copy(out, size, "none is enabled");
	for (int i = 0; i < SURVEY_STATES && len < size; i++)
		if (s->counts[i] > 0)
			len += (size_t)snprintf(out + len, size - len,
			    "%s%zu %s", len > 0 ? ", " : "", s->counts[i],
			    survey_state_name((enum survey_state)i));
}

void
relay_warn_nobody(struct relay *r)
{
	uint64_t hash = state_model_hash(r->model, strlen(r->model));
	struct relays *rs = r->all;
	struct quiet *quiet = &rs->quiet[hash % ARRAY_LEN(rs->quiet)];
	int64_t now_us = clock_mono_us();
	struct buf list = BUF_INIT(LIST_MAX);
	struct standing s = { .now_ms = clock_now_ms(), .list = &list };

	if (quiet->until_us > now_us) {
		quiet->kept_back++;
		return;
	}
	look_around(r, &s);
	buf_append(&list, "", 1);
	log_set_request(r->x->request_id);
	log_warn("nobody can serve model \"%s\" now: %s%s; %u requests more "
		 "since the last such line",
	    r->model, list.failed ? "many" : list.data,
	    s.total > LISTED ? " and others" : "", quiet->kept_back);
	log_set_request(NULL);
	*quiet = (struct quiet){ .until_us = now_us + QUIET_US };
	buf_fini(&list);
}

/* All that there is waits for its quota. */
static void
refuse_cooling(struct relay *r, int64_t left_ms)
{
	struct standing s = { .now_ms = clock_now_ms() };

	look_around(r, &s);
	relay_refuse(r, RESPOND_MODEL_COOLDOWN, left_ms,
	    "All %zu credentials for model \"%s\" are cooling down; the first "
	    "is back in %lld s",
	    s.total, r->model, (long long)respond_retry_seconds(left_ms));
}

static void
refuse_blocked(struct relay *r, int64_t left_ms)
{
	struct standing s = { .now_ms = clock_now_ms() };
	char counts[128];

	look_around(r, &s);
	describe(&s, counts, sizeof(counts));
	relay_refuse(r, RESPOND_AUTH_UNAVAILABLE, left_ms,
	    "No credential for model \"%s\" is usable: %s", r->model, counts);
}

void
relay_refuse_pick(struct relay *r, int refusal, int64_t until_ms)
{
	int64_t left_ms =
	    until_ms > 0 ? until_ms - clock_now_ms() : RESPOND_NO_RETRY;

	if (until_ms > 0 && left_ms < 0)
		left_ms = 0;
	switch (refusal) {
	case PICK_UNKNOWN_MODEL:
		if (pool_is_empty(r->worker))
			relay_refuse(r, RESPOND_AUTH_UNAVAILABLE,
			    RESPOND_NO_RETRY, "There is no credential at all");
		else
			relay_refuse(r, RESPOND_MODEL_NOT_FOUND,
			    RESPOND_NO_RETRY, "There is no model \"%s\"",
			    r->model);
		break;
	case PICK_DIALECT:
	case PICK_EXHAUSTED:
		relay_refuse(r, RESPOND_DIALECT_NOT_SERVED, RESPOND_NO_RETRY,
		    "No credential for model \"%s\" serves this endpoint",
		    r->model);
		break;
	case PICK_COOLING:
		refuse_cooling(r, left_ms);
		break;
	default:
		refuse_blocked(r, left_ms);
		break;
	}
}
