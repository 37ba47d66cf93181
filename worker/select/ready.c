/* SPDX-License-Identifier: MIT */
/* Bits of members; see ready.h. */
#include "worker/select/ready.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "common/board.h"

enum { WORD_BITS = 64 };

/* One more than there are bits for, to count up to the end. */
static size_t
words_for(uint32_t n)
{
	return n / WORD_BITS + 1;
}

void
ready_views_fini(struct ready_views *views)
{
	if (views->views == NULL)
		return;
	for (size_t i = 0; i < BOARD_CURSORS; i++)
		free(views->views[i].words);
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

	if (view->words == NULL || words != words_for(view->n))
		view->words =
		    xreallocarray(view->words, words, sizeof(*view->words));
	memset(view->words, 0, words * sizeof(*view->words));
	view->members = members;
	view->n = n;
	view->txn_id = txn_id;
	view->made_ms = now_ms;
	view->until_ms = INT64_MAX;
}

void
ready_view_set(struct ready_view *view, uint32_t member)
{
	view->words[member / WORD_BITS].bits |= UINT64_C(1)
						<< member % WORD_BITS;
}

void
ready_view_end(struct ready_view *view)
{
	for (size_t i = 1; i < words_for(view->n); i++)
		view->words[i].before =
		    view->words[i - 1].before +
		    (uint32_t)__builtin_popcountll(view->words[i - 1].bits);
}

bool
ready_view_has(const struct ready_view *view, uint32_t member)
{
	return (view->words[member / WORD_BITS].bits >> member % WORD_BITS &
		   1) != 0;
}

void
ready_view_until(struct ready_view *view, int64_t until_ms)
{
	if (until_ms != 0 && until_ms < view->until_ms)
		view->until_ms = until_ms;
}

/*
 * The first word behind this one, of the view's words, that has a bit: the last
 * before which there are no more of them. Without any it is the very last.
 */
static uint32_t
next_word(const struct ready_view *view, uint32_t word, uint32_t words)
{
	uint32_t low = word + 1, high = words, middle;
	uint32_t before = view->words[low].before;

	while (high - low > 1) {
		middle = low + (high - low) / 2;
		if (view->words[middle].before == before)
			low = middle;
		else
			high = middle;
	}
	return low;
}

uint32_t
ready_view_next(const struct ready_view *view, uint32_t from, uint32_t end)
{
	uint32_t i = from / WORD_BITS, words = (uint32_t)words_for(view->n);
	uint64_t bits = view->words[i].bits & ~UINT64_C(0) << from % WORD_BITS;
	uint32_t found;

	if (bits == 0 && i + 1 < words) {
		i = next_word(view, i, words);
		bits = view->words[i].bits;
	}
	if (bits == 0)
		return end;
	found = i * WORD_BITS + (uint32_t)__builtin_ctzll(bits);
	return found < end ? found : end;
}

/* How many members below this one are ready. */
static uint32_t
count_below(const struct ready_view *view, uint32_t member)
{
	const struct ready_word *word = &view->words[member / WORD_BITS];
	uint64_t below = (UINT64_C(1) << member % WORD_BITS) - 1;

	return word->before +
	       (uint32_t)__builtin_popcountll(word->bits & below);
}

uint32_t
ready_view_count(const struct ready_view *view, uint32_t first, uint32_t n)
{
	return count_below(view, first + n) - count_below(view, first);
}
