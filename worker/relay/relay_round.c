/* SPDX-License-Identifier: MIT */
/*
 * Rounds: when everybody has failed, those whose settings allow it are asked
 * once more, after the shortest wait that gives one of them a chance. The
 * settings of the configuration are those of this worker's generation, which
 * is as long as the request lives.
 */
#include <stdlib.h>

#include "common/clock.h"
#include "common/secret.h"
#include "worker/relay/relay_core.h"
#include "worker/select/strategy.h"
#include "worker/select/survey.h"

/* Failures that may be over by the next round. */
static const int passing[] = { 403, 408, 429, 500, 502, 503, 504 };

static bool
may_pass(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(passing); i++)
		if (passing[i] == status)
			return true;
	return false;
}

/* Who could be asked in the next round, and when the first of them. */
struct chances {
	unsigned round;
	int default_retry;
	int64_t now_ms;
	bool any;
	int64_t wait_ms;
};

static bool
on_member(void *ctx, const struct survey_member *m)
{
	struct chances *c = ctx;
	int64_t wait_ms = m->until_ms - c->now_ms;

	if (!survey_in_round(m->request_retry, c->default_retry, c->round))
		return true;
	switch (m->state) {
	case SURVEY_READY:
		wait_ms = 0;
		break;
	case SURVEY_COOLING:
		break;
	case SURVEY_BLOCKED:
		if (!may_pass(m->status))
			return true;
		break;
	default:
		return true;
	}
	if (!c->any || wait_ms < c->wait_ms)
		c->wait_ms = wait_ms;
	c->any = true;
	return c->wait_ms > 0;
}

/*
 * Who waits for the same deadline is spread behind it: by up to a quarter of
 * the wait, two seconds, and what the longest allowed wait leaves.
 */
static int64_t
with_jitter(int64_t wait_ms, int64_t longest_ms)
{
	int64_t room_ms = wait_ms / 4;
	uint32_t random;

	if (room_ms > 2000)
		room_ms = 2000;
	if (room_ms > longest_ms - wait_ms)
		room_ms = longest_ms - wait_ms;
	if (room_ms <= 0)
		return wait_ms;
	random_bytes(&random, sizeof(random));
	return wait_ms + random % room_ms;
}

static void
begin_round(struct relay *r)
{
	r->round++;
	r->spent = 0;
	r->nexcluded = 0;
	r->ntried = 0;
	r->retry_at_ms = 0;
	r->unbound = false;
	free(r->expected);
	r->expected = NULL;
}

bool
relay_next_round(struct relay *r, int status)
{
	const struct config *config = r->worker->config;
	int64_t longest_ms = config->max_retry_interval_ms;
	struct chances c = {
		.round = r->round + 1,
		.default_retry = config->request_retry,
		.now_ms = clock_now_ms(),
	};
	struct survey_ask ask = {
		.state = &r->worker->store_state,
		.board = r->worker->board,
		.model = r->model,
		.dialects = DIALECT_BIT(r->x->route.dialect),
		.by_weight = r->all->picker.strategy->by_weight,
		.now_ms = c.now_ms,
	};

	if (!may_pass(status) || survey(&ask, on_member, &c) != 0 || !c.any ||
	    c.wait_ms > longest_ms)
		return false;
	begin_round(r);
	relay_wake_in(r, WAKE_PICK, with_jitter(c.wait_ms, longest_ms));
	return true;
}
