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

/*
 * A cursor is {version:16, place:48}: a weighted sequence begins anew when
 * weights or members have changed, also where the old place still exists.
 */
enum { PLACE_BITS = 48 };

static uint64_t
cursor_pack(uint64_t place, uint32_t version)
{
	return place | (uint64_t)version << PLACE_BITS;
}

/* Where a cursor that reads `raw` points at, of places before `end`. */
static uint64_t
cursor_place(
    const struct strategy *self, uint64_t raw, uint32_t version, uint64_t end)
{
	uint64_t place = raw & ((UINT64_C(1) << PLACE_BITS) - 1);

	if (raw >> PLACE_BITS == version && place < end)
		return place;
	return self->on_change(place, end);
}

/* The places that a cursor goes over. */
struct circle {
	uint32_t cursor; /* on the board; beyond it: there is none */
	uint32_t version;
	uint32_t first; /* member of the first place, where they follow */
	uint32_t end;   /* places */

	/* The first place from `from` on that is worth asking; end: none. */
	uint32_t (*next)(const struct strategy_ask *ask,
	    const struct circle *circle, uint32_t from);
	const struct state_member *(*at)(const struct strategy_ask *ask,
	    const struct circle *circle, uint32_t place);
};

static uint32_t
next_member(
    const struct strategy_ask *ask, const struct circle *circle, uint32_t from)
{
	uint32_t first = circle->first;

	return ask->next(ask->ctx, first + from, first + circle->end) - first;
}

static const struct state_member *
member_at(
    const struct strategy_ask *ask, const struct circle *circle, uint32_t place)
{
	return &members_of(ask)[circle->first + place];
}

static uint32_t
next_turn(const struct strategy_ask *ask UNUSED,
    const struct circle *circle UNUSED, uint32_t from)
{
	return from;
}

static const struct state_member *
turn_at(const struct strategy_ask *ask, const struct circle *circle UNUSED,
    uint32_t place)
{
	const struct state_sequence *sequence =
	    &ask->tier->sequences[ask->dialect];
	const uint16_t *turns = state_sequence_turns(ask->route, sequence);

	return &members_of(ask)[turns[place]];
}

/* The first place in [from, end) whose member passes; end: there is none. */
static uint32_t
find_before(const struct strategy_ask *ask, const struct circle *circle,
    uint32_t from, uint32_t end, const struct state_member **member)
{
	uint32_t place = circle->next(ask, circle, from);

	while (place < end) {
		*member = circle->at(ask, circle, place);
		if (passes(ask, *member))
			return place;
		place = circle->next(ask, circle, place + 1);
	}
	return end;
}

/* Once around from start; circle->end: nobody passes. */
static uint32_t
find_place(const struct strategy_ask *ask, const struct circle *circle,
    uint32_t start, const struct state_member **member)
{
	uint32_t place = find_before(ask, circle, start, circle->end, member);

	if (place < circle->end)
		return place;
	place = find_before(ask, circle, 0, start, member);
	return place < start ? place : circle->end;
}

static const struct state_member *
pick_in_circle(const struct strategy *self, const struct strategy_ask *ask,
    const struct circle *circle)
{
	bool moves = circle->cursor < BOARD_CURSORS;
	const struct state_member *member = NULL;
	uint64_t seen, next;
	uint32_t place;

	if (circle->end == 0)
		return NULL;
	do {
		seen = moves ? board_cursor_read(ask->board, circle->cursor)
			     : cursor_pack(0, circle->version);
		place = find_place(ask, circle,
		    (uint32_t)cursor_place(
			self, seen, circle->version, circle->end),
		    &member);
		if (place == circle->end)
			return NULL;
		next = cursor_pack(place + 1, circle->version);
	} while (moves &&
		 !board_cursor_move(ask->board, circle->cursor, seen, next));
	return member;
}

/* The members of one provider take turns by id. */
static const struct state_member *
pick_in_group(const struct strategy *self, const struct strategy_ask *ask,
    const struct state_group *group)
{
	struct circle circle = {
		.cursor = group->cursors + (uint32_t)ask->dialect,
		.first = group->first,
		.end = group->nmembers,
		.next = next_member,
		.at = member_at,
	};

	return pick_in_circle(self, ask, &circle);
}

static uint32_t
count_group(const struct strategy_ask *ask, const struct state_group *group)
{
	return ask->count(ask->ctx, group->first, group->nmembers);
}

/* The group to which a place belongs; ngroups: there are fewer places. */
static uint32_t
group_of_place(const struct strategy_ask *ask, uint64_t place)
{
	const struct state_group *groups =
	    state_tier_groups(ask->route, ask->tier);
	uint32_t i, n;

	for (i = 0; i < ask->tier->ngroups; i++) {
		n = count_group(ask, &groups[i]);
		if (place < n)
			break;
		place -= n;
	}
	return i;
}

/*
 * Claims the next place of all providers, each of which has as many in a row
 * as it has members that pass; returns whose it is, or ngroups when nobody
 * passes.
 */
static uint32_t
claim_place(const struct strategy *self, const struct strategy_ask *ask)
{
	uint32_t cursor = ask->tier->cursors + (uint32_t)ask->dialect;
	const struct state_group *groups =
	    state_tier_groups(ask->route, ask->tier);
	uint32_t ngroups = ask->tier->ngroups, group;
	uint64_t seen, total, place;

	do {
		total = 0;
		for (uint32_t i = 0; i < ngroups; i++)
			total += count_group(ask, &groups[i]);
		if (total == 0)
			return ngroups;
		seen = board_cursor_read(ask->board, cursor);
		place = cursor_place(self, seen, 0, total);
		group = group_of_place(ask, place);
	} while (group == ngroups ||
		 !board_cursor_move(ask->board, cursor, seen, place + 1));
	return group;
}

/*
 * Several providers in proportion to their members that pass. Whoever claims
 * a place takes it: one that nobody of its provider can take any more, which
 * is rare, goes to the next.
 */
static const struct state_member *
pick_by_provider(const struct strategy *self, const struct strategy_ask *ask)
{
	const struct state_group *groups =
	    state_tier_groups(ask->route, ask->tier);
	const struct state_member *member = NULL;
	uint32_t ngroups = ask->tier->ngroups;
	uint32_t owner = claim_place(self, ask);

	if (owner == ngroups)
		return NULL;
	for (uint32_t i = 0; i < ngroups && member == NULL; i++)
		member =
		    pick_in_group(self, ask, &groups[(owner + i) % ngroups]);
	return member;
}

/* All members of the tier as they stand. */
static const struct state_member *
pick_in_tier(const struct strategy *self, const struct strategy_ask *ask)
{
	struct circle circle = {
		.cursor = ask->tier->cursors + (uint32_t)ask->dialect,
		.end = ask->tier->nmembers,
		.next = next_member,
		.at = member_at,
	};

	return pick_in_circle(self, ask, &circle);
}

static const struct state_member *
pick_round_robin(const struct strategy *self, const struct strategy_ask *ask)
{
	uint32_t cursor = ask->tier->cursors + (uint32_t)ask->dialect;

	return ask->tier->ngroups > 1 && cursor < BOARD_CURSORS
		   ? pick_by_provider(self, ask)
		   : pick_in_tier(self, ask);
}

/* Equal weights of one provider have no sequence: they take turns by id. */
static const struct state_member *
pick_weighted(const struct strategy *self, const struct strategy_ask *ask)
{
	const struct state_sequence *sequence =
	    &ask->tier->sequences[ask->dialect];
	struct circle by_turn = {
		.cursor = ask->tier->cursors + (uint32_t)ask->dialect,
		.version = sequence->version,
		.end = sequence->nturns,
		.next = next_turn,
		.at = turn_at,
	};

	return sequence->nturns != 0 ? pick_in_circle(self, ask, &by_turn)
				     : pick_in_tier(self, ask);
}

static const struct state_member *
pick_fill_first(
    const struct strategy *self UNUSED, const struct strategy_ask *ask)
{
	const struct state_member *members = members_of(ask);
	uint32_t n = ask->tier->nmembers;

	for (uint32_t i = ask->next(ask->ctx, 0, n); i < n;
	     i = ask->next(ask->ctx, i + 1, n)) {
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
	[STRATEGY_ROUND_ROBIN] = {
		.name = "round-robin",
		.pick = pick_round_robin,
		.on_change = wrap_cursor,
	},
	[STRATEGY_WEIGHTED] = {
		.name = "weighted-round-robin",
		.pick = pick_weighted,
		.on_change = restart_cursor,
		.by_weight = true,
	},
	[STRATEGY_FILL_FIRST] = {
		.name = "fill-first",
		.pick = pick_fill_first,
	},
	[STRATEGY_SESSION_HASH] = {
		.name = "session-hash",
		.pick = pick_session_hash,
		.on_change = wrap_cursor,
	},
};

const struct strategy *
strategy_get(enum strategy_id id)
{
	assert(id < STRATEGY_MAX);
	return &strategies[id];
}
