/* SPDX-License-Identifier: MIT */
#include "common/smooth.h"

#include <assert.h>
#include <stdlib.h>

#include "common/alloc.h"
#include "common/attr.h"

struct turn {
	int64_t weight;
	uint16_t member;
};

/*
 * All members of one weight. They stand equal but for the turns they had, so
 * that only the next in line is ever a candidate: a step costs as much as
 * there are different weights, not members.
 */
struct rank {
	int64_t weight;
	size_t first, len; /* among the sorted turns */
	size_t next;
	int64_t rounds; /* turns that the next in line has had */
};

static int64_t
gcd(int64_t a, int64_t b)
{
	int64_t rest;

	while (b != 0) {
		rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

static int64_t
sum(const struct turn *turns, size_t n)
{
	int64_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += turns[i].weight;
	return total;
}

static void
divide_by_gcd(struct turn *turns, size_t n)
{
	int64_t divisor = 0;

	for (size_t i = 0; i < n; i++)
		divisor = gcd(turns[i].weight, divisor);
	for (size_t i = 0; i < n; i++)
		turns[i].weight /= divisor;
}

/*
 * Scales weights, sorted in descending order, to a sum of at most room. Those
 * that would fall below one turn get one, and the others share the rest; a
 * smaller rest may let another one fall, hence from the lightest up.
 */
static void
scale(struct turn *turns, size_t n, int64_t room)
{
	int64_t total = sum(turns, n);
	size_t shared = n;

	if (total <= room)
		return;
	while (shared > 0 && turns[shared - 1].weight * room < total) {
		total -= turns[shared - 1].weight;
		room--;
		turns[--shared].weight = 1;
	}
	for (size_t i = 0; i < shared; i++)
		turns[i].weight = turns[i].weight * room / total;
	divide_by_gcd(turns, n);
}

static int
by_weight_then_member(const void *a, const void *b)
{
	const struct turn *x = a, *y = b;

	if (x->weight != y->weight)
		return x->weight > y->weight ? -1 : 1;
	return (x->member > y->member) - (x->member < y->member);
}

static size_t
make_ranks(const struct turn *turns, size_t n, struct rank *ranks)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		if (count == 0 || ranks[count - 1].weight != turns[i].weight)
			ranks[count++] = (struct rank){
				.weight = turns[i].weight,
				.first = i,
			};
		ranks[count - 1].len++;
	}
	return count;
}

/* The member whose turn the step'th is, counted from 1. */
static uint16_t
take_turn(const struct turn *turns, struct rank *ranks, size_t nranks,
    int64_t step, int64_t total)
{
	struct rank *best = ranks;
	int64_t credit, best_credit = INT64_MIN;
	uint16_t member, best_member = 0;

	for (size_t i = 0; i < nranks; i++) {
		credit = ranks[i].weight * step - total * ranks[i].rounds;
		member = turns[ranks[i].first + ranks[i].next].member;
		if (credit > best_credit ||
		    (credit == best_credit && member < best_member)) {
			best = &ranks[i];
			best_credit = credit;
			best_member = member;
		}
	}
	if (++best->next == best->len) {
		best->next = 0;
		best->rounds++;
	}
	return best_member;
}

size_t
smooth_room(size_t n)
{
	return n > SMOOTH_PERIOD_MAX ? n : SMOOTH_PERIOD_MAX;
}

size_t
smooth_sequence(const int32_t *weights, size_t n, uint16_t *sequence)
{
	AUTO_FREE struct turn *turns = xcalloc(n, sizeof(*turns));
	AUTO_FREE struct rank *ranks = xcalloc(n, sizeof(*ranks));
	size_t count = 0, nranks;
	int64_t total;

	assert(n <= SMOOTH_MEMBERS_MAX);
	for (size_t i = 0; i < n; i++) {
		if (weights[i] > 0)
			turns[count++] = (struct turn){
				.weight = weights[i],
				.member = (uint16_t)i,
			};
	}
	if (count == 0)
		return 0;
	divide_by_gcd(turns, count);
	qsort(turns, count, sizeof(*turns), by_weight_then_member);
	scale(turns, count, (int64_t)smooth_room(count));
	/* Weights that were different may have become the same. */
	qsort(turns, count, sizeof(*turns), by_weight_then_member);
	nranks = make_ranks(turns, count, ranks);
	total = sum(turns, count);
	for (int64_t step = 1; step <= total; step++)
		sequence[step - 1] =
		    take_turn(turns, ranks, nranks, step, total);
	return (size_t)total;
}
