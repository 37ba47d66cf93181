/* SPDX-License-Identifier: MIT */
#include "worker/select/strategy.h"

#include <assert.h>
#include <stddef.h>

#include "common/attr.h"

static const struct state_member *
members_of(const struct strategy_ask *ask)
{
	return state_tier_members(ask->route, ask->tier);
}

static bool
passes(const struct strategy_ask *ask, const struct state_member *member)
{
	return ask->passes(ask->ctx, member);
}

/* Round robin goes on at the same place of a shorter list. */
static uint64_t
wrap_cursor(uint64_t cursor, uint64_t end)
{
	return cursor % end;
}

/* A weighted sequence begins anew. */
static uint64_t
restart_cursor(uint64_t cursor UNUSED, uint64_t end UNUSED)
{
	return 0;
}

/* The places that a cursor goes over; at: the member of a place. */
struct circle {
	uint64_t end;
	const struct state_member *(*at)(
	    const struct strategy_ask *ask, uint64_t place);
};

static const struct state_member *
member_at(const struct strategy_ask *ask, uint64_t place)
{
	return &members_of(ask)[place];
}

static const struct state_member *
turn_at(const struct strategy_ask *ask, uint64_t place)
{
	const struct state_sequence *sequence =
	    &ask->tier->sequences[ask->dialect];
	const uint16_t *turns = state_sequence_turns(ask->route, sequence);

	return &members_of(ask)[turns[place]];
}

/* The first place from start on whose member passes; end: there is none. */
static uint64_t
find_place(const struct strategy_ask *ask, const struct circle *circle,
    uint64_t start, const struct state_member **member)
{
	uint64_t place = start;

	do {
		*member = circle->at(ask, place);
		if (passes(ask, *member))
			return place;
		if (++place == circle->end)
			place = 0;
	} while (place != start);
	return circle->end;
}

static const struct state_member *
pick_in_circle(const struct strategy *self, const struct strategy_ask *ask,
    const struct circle *circle)
{
	uint32_t cursor = ask->tier->cursors + (uint32_t)ask->dialect;
	bool moves = cursor < BOARD_CURSORS;
	const struct state_member *member;
	uint64_t seen, start, place;

	if (circle->end == 0)
		return NULL;
	do {
		seen = moves ? board_cursor_read(ask->board, cursor) : 0;
		start = seen < circle->end ? seen
					   : self->on_change(seen, circle->end);
		place = find_place(ask, circle, start, &member);
		if (place == circle->end)
			return NULL;
	} while (
	    moves && !board_cursor_move(ask->board, cursor, seen, place + 1));
	return member;
}

static const struct state_member *
pick_round_robin(const struct strategy *self, const struct strategy_ask *ask)
{
	struct circle circle = { ask->tier->nmembers, member_at };

	return pick_in_circle(self, ask, &circle);
}

/* Equal weights have no sequence: they take turns by id. */
static const struct state_member *
pick_weighted(const struct strategy *self, const struct strategy_ask *ask)
{
	uint32_t nturns = ask->tier->sequences[ask->dialect].nturns;
	struct circle by_turn = { nturns, turn_at };
	struct circle by_id = { ask->tier->nmembers, member_at };

	return pick_in_circle(self, ask, nturns != 0 ? &by_turn : &by_id);
}

static const struct state_member *
pick_fill_first(
    const struct strategy *self UNUSED, const struct strategy_ask *ask)
{
	const struct state_member *members = members_of(ask);

	for (uint32_t i = 0; i < ask->tier->nmembers; i++) {
		if (passes(ask, &members[i]))
			return &members[i];
	}
	return NULL;
}

/* Every bit of the score depends on every bit of both (splitmix64). */
static uint64_t
score(uint64_t session, uint64_t id_hash)
{
	uint64_t h = session ^ id_hash * UINT64_C(0x9e3779b97f4a7c15);

	h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
	return h ^ h >> 31;
}

const struct state_member *
strategy_rendezvous(const struct strategy_ask *ask)
{
	const struct state_member *members = members_of(ask), *best = NULL;
	uint64_t best_score = 0, s;

	for (uint32_t i = 0; i < ask->tier->nmembers; i++) {
		s = score(ask->session, members[i].id_hash);
		if ((best == NULL || s > best_score) &&
		    passes(ask, &members[i])) {
			best = &members[i];
			best_score = s;
		}
	}
	return best;
}

static const struct state_member *
pick_session_hash(const struct strategy *self, const struct strategy_ask *ask)
{
	return ask->has_session ? strategy_rendezvous(ask)
				: pick_round_robin(self, ask);
}

static const struct strategy strategies[STRATEGY_MAX] = {
	[STRATEGY_ROUND_ROBIN] = { "round-robin", pick_round_robin,
	    wrap_cursor },
	[STRATEGY_WEIGHTED] = { "weighted-round-robin", pick_weighted,
	    restart_cursor },
	[STRATEGY_FILL_FIRST] = { "fill-first", pick_fill_first, NULL },
	[STRATEGY_SESSION_HASH] = { "session-hash", pick_session_hash,
	    wrap_cursor },
};

const struct strategy *
strategy_get(enum strategy_id id)
{
	assert(id < STRATEGY_MAX);
	return &strategies[id];
}
