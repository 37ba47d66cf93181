/* SPDX-License-Identifier: MIT */
/* Bits of members; see ready.h. */
#include "worker/select/ready.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/board.h"

enum { WORD_BITS = 64 };

static size_t
words_for(uint32_t n)
{
	return (n + WORD_BITS - 1) / WORD_BITS;
}

void
ready_views_fini(struct ready_views *views)
{
	if (views->views == NULL)
		return;
	for (size_t i = 0; i < BOARD_CURSORS; i++)
		free(views->views[i].bits);
	free(views->views);
	views->views = NULL;
}

struct ready_view *
ready_views_at(struct ready_views *views, uint32_t cursor)
{
	if (views->views == NULL)
		views->views = xcalloc(BOARD_CURSORS, sizeof(*views->views));
	return &views->views[cursor];
}

bool
ready_view_holds(const struct ready_view *view, const void *members,
    size_t txn_id, int64_t now_ms)
{
	return view->members == members && view->txn_id == txn_id &&
	       view->n > READY_SMALL && now_ms < view->until_ms &&
	       now_ms >= view->made_ms &&
	       now_ms - view->made_ms < READY_KEPT_MS;
}

void
ready_view_begin(struct ready_view *view, const void *members, uint32_t n,
    size_t txn_id, int64_t now_ms)
{
	size_t words = words_for(n);

	if (view->bits == NULL || words != words_for(view->n))
		view->bits =
		    xreallocarray(view->bits, words, sizeof(*view->bits));
	memset(view->bits, 0, words * sizeof(*view->bits));
	view->members = members;
	view->n = n;
	view->txn_id = txn_id;
	view->made_ms = now_ms;
	view->until_ms = INT64_MAX;
}

void
ready_view_set(struct ready_view *view, uint32_t member)
{
	view->bits[member / WORD_BITS] |= UINT64_C(1) << member % WORD_BITS;
}

bool
ready_view_has(const struct ready_view *view, uint32_t member)
{
	return (view->bits[member / WORD_BITS] >> member % WORD_BITS & 1) != 0;
}

void
ready_view_until(struct ready_view *view, int64_t until_ms)
{
	if (until_ms != 0 && until_ms < view->until_ms)
		view->until_ms = until_ms;
}

/* The bits of a word that stand for members in [from, end). */
static uint64_t
bits_between(
    const struct ready_view *view, uint32_t word, uint32_t from, uint32_t end)
{
	uint64_t bits = view->bits[word];

	if (word == from / WORD_BITS)
		bits &= ~UINT64_C(0) << from % WORD_BITS;
	if (word == end / WORD_BITS)
		bits &= ~(~UINT64_C(0) << end % WORD_BITS);
	return bits;
}

uint32_t
ready_view_next(const struct ready_view *view, uint32_t from, uint32_t end)
{
	uint64_t bits;

	for (uint32_t i = from / WORD_BITS; i * WORD_BITS < end; i++) {
		bits = bits_between(view, i, from, end);
		if (bits != 0)
			return i * WORD_BITS + (uint32_t)__builtin_ctzll(bits);
	}
	return end;
}

uint32_t
ready_view_count(const struct ready_view *view, uint32_t first, uint32_t n)
{
	uint32_t end = first + n, count = 0;

	for (uint32_t i = first / WORD_BITS; i * WORD_BITS < end; i++)
		count += (uint32_t)__builtin_popcountll(
		    bits_between(view, i, first, end));
	return count;
}
