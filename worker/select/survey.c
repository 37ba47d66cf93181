/* SPDX-License-Identifier: MIT */
#include "worker/select/survey.h"

#include <errno.h>
#include <string.h>

static const char *const state_names[SURVEY_STATES] = {
	[SURVEY_READY] = "ready",
	[SURVEY_COOLING] = "cooling",
	[SURVEY_BLOCKED] = "blocked",
	[SURVEY_DISABLED] = "disabled",
	[SURVEY_PROXY] = "proxy",
};

const char *
survey_state_name(enum survey_state state)
{
	return state_names[state];
}

/* Takes the word of a cell over, if it bars longer than what was seen. */
static void
take_word(struct survey_member *m, struct board_cell *cell,
    uint16_t incarnation, int64_t now_ms)
{
	struct board_word word = board_cell_read(cell, incarnation);
	struct board_note note = board_note_unpack(atomic_load(&cell->note));

	if (word.kind == BOARD_READY || word.until_ms <= now_ms ||
	    word.until_ms <= m->until_ms)
		return;
	m->state = word.kind == BOARD_COOLING ? SURVEY_COOLING : SURVEY_BLOCKED;
	m->until_ms = word.until_ms;
	m->reason = note.reason;
	m->status = note.status;
}

/* Of a pool of upstream models the one that is back first, if none is ready. */
static void
take_models(const struct survey_ask *ask, const struct state_route *route,
    const struct state_member *member, struct survey_member *m)
{
	struct survey_member best, one;
	const uint32_t *cells;
	uint32_t n;

	cells = state_member_cells(route, member, &n);
	for (uint32_t i = 0; i < n; i++) {
		one = *m;
		if (cells[i] < BOARD_CELLS)
			take_word(&one, &ask->board->cells[cells[i]],
			    member->incarnation, ask->now_ms);
		if (i == 0 || one.until_ms < best.until_ms)
			best = one;
	}
	*m = best;
}

/* What the record says. 0, -ENOENT or negative errno. */
static int
take_record(const struct survey_ask *ask, MDB_txn *txn, const char *id,
    struct survey_member *m)
{
	const struct state_credential *c;
	int rc = state_get_credential(ask->state, txn, id, &c);

	if (rc < 0)
		return rc;
	m->request_retry = c->request_retry;
	if ((c->flags & STATE_PROXY_INVALID) != 0)
		m->state = SURVEY_PROXY;
	if ((c->flags & STATE_DISABLED) != 0)
		m->state = SURVEY_DISABLED;
	return 0;
}

/* 0, 1 when fn wants no more, or negative errno. */
static int
look_at(const struct survey_ask *ask, MDB_txn *txn,
    const struct state_route *route, const struct state_member *member,
    survey_fn *fn, void *ctx)
{
	struct board *board = ask->board;
	struct survey_member m = {
		.id = state_string(route, member->id),
		.slot = member->credential,
	};
	int rc;

	if ((member->dialects & ask->dialects) == 0 ||
	    (ask->by_weight && member->weight <= 0))
		return 0;
	if (member->credential < BOARD_CREDENTIALS)
		take_word(&m, &board->credentials[member->credential].cell,
		    member->incarnation, ask->now_ms);
	take_models(ask, route, member, &m);
	rc = take_record(ask, txn, m.id, &m);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return rc;
	return fn(ctx, &m) ? 0 : 1;
}

static int
walk(const struct survey_ask *ask, MDB_txn *txn, survey_fn *fn, void *ctx)
{
	const struct state_route *route;
	int rc = state_get_route(
	    ask->state, txn, ask->model, strlen(ask->model), &route);

	for (uint32_t i = 0; rc == 0 && i < route->ntiers; i++) {
		const struct state_tier *tier = &state_route_tiers(route)[i];
		const struct state_member *members =
		    state_tier_members(route, tier);

		for (uint32_t k = 0; rc == 0 && k < tier->nmembers; k++)
			rc = look_at(ask, txn, route, &members[k], fn, ctx);
	}
	return rc;
}

int
survey(const struct survey_ask *ask, survey_fn *fn, void *ctx)
{
	MDB_txn *txn;
	int rc = store_read(ask->state, &txn);

	if (rc < 0)
		return rc;
	rc = walk(ask, txn, fn, ctx);
	store_read_end(ask->state);
	return rc > 0 ? 0 : rc;
}
