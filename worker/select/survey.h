/* SPDX-License-Identifier: MIT */
/*
 * Who might serve a model and how they stand: asked when nobody could be
 * picked, to say so, and before another round. Reads route, records and
 * words; chooses nobody, moves no cursor, binds nothing. It looks at every
 * candidate, so it is for failures only.
 */
#ifndef FL_WORKER_SELECT_SURVEY_H
#define FL_WORKER_SELECT_SURVEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/board.h"
#include "common/state.h"
#include "common/store.h"

enum survey_state {
	SURVEY_READY,
	SURVEY_COOLING, /* waits for its quota */
	SURVEY_BLOCKED, /* any other failure */
	SURVEY_DISABLED,
	SURVEY_PROXY, /* its proxy is invalid: it fails closed */
	SURVEY_STATES
};

struct survey_member {
	const char *id;
	uint32_t slot;
	enum survey_state state;
	int64_t until_ms;      /* COOLING and BLOCKED: of clock_now_ms() */
	uint8_t reason;        /* enum cool_reason */
	uint16_t status;       /* of HTTP that benched it; 0: none */
	int32_t request_retry; /* -1: inherits */
};

struct survey_ask {
	struct store *state;
	struct board *board;
	const char *model; /* canonical */
	uint8_t dialects;  /* of which a candidate speaks one */
	bool by_weight;    /* who weighs nothing is no candidate */
	int64_t now_ms;
};

/*
 * Calls fn for each candidate, best tier first, ids ascending; the member is
 * valid as the call's. Stops when fn returns false. 0, -ENOENT for a model
 * that has no route, or negative errno. No read transaction may be open.
 */
typedef bool survey_fn(void *ctx, const struct survey_member *member);
int survey(const struct survey_ask *ask, survey_fn *fn, void *ctx) MUST_CHECK;

/*
 * Whether a credential takes part in a round, the first of which is 0: own is
 * its request-retry, -1 where it inherits.
 */
static inline bool
survey_in_round(int32_t own, int inherited, unsigned round)
{
	int retry = own >= 0 ? own : inherited;

	return round == 0 || (retry >= 0 && round <= (unsigned)retry);
}

/* "ready", "cooling", "blocked", "disabled", "proxy". */
const char *survey_state_name(enum survey_state state);

#endif
