/* SPDX-License-Identifier: MIT */
/* What is said when nobody could be asked, not even once. */
#include "common/clock.h"
#include "worker/relay/relay_core.h"

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
		relay_refuse(r, RESPOND_MODEL_COOLDOWN, left_ms,
		    "All credentials for model \"%s\" are cooling down; "
		    "the first is back in %lld s",
		    r->model, (long long)respond_retry_seconds(left_ms));
		break;
	default:
		relay_refuse(r, RESPOND_AUTH_UNAVAILABLE, left_ms,
		    "No credential for model \"%s\" is usable", r->model);
		break;
	}
}
