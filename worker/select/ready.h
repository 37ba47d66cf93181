/* SPDX-License-Identifier: MIT */
/*
 * Which members of a tier were ready when one last looked at all of them: a
 * bit each, kept for a few milliseconds, so that a pick from very many
 * members neither counts them nor steps over each one that is benched. A bit
 * that is set is only a proposal; whether the member passes is asked again.
 */
#ifndef FL_WORKER_SELECT_READY_H
#define FL_WORKER_SELECT_READY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * READY_SMALL: up to so many members are looked at each time. READY_KEPT_MS:
 * for how long a larger view is kept, unless a bench ends earlier.
 */
enum { READY_SMALL = 16, READY_KEPT_MS = 10 };

struct ready_view {
	const void *members; /* the tier it is of, within one snapshot */
	size_t txn_id;
	int64_t made_ms;
	int64_t until_ms; /* the first bench ends, or far away */
	uint32_t n;
	struct ready_word *words;
};

/* 64 members, and how many before them are ready. */
struct ready_word {
	uint64_t bits;
	uint32_t before;
};

/* A view for each cursor that is used; all zeros is a good beginning. */
struct ready_views {
	struct ready_view *views; /* by cursor, made at the first use */
};

void ready_views_fini(struct ready_views *views);

/* The place for the view of the tier with this cursor (below BOARD_CURSORS). */
struct ready_view *ready_views_at(struct ready_views *views, uint32_t cursor);

/* Whether the view still tells of these members. */
bool ready_view_holds(const struct ready_view *view, const void *members,
    size_t txn_id, int64_t now_ms);

/* Begins it anew with no bit set; ready_view_end() when all are. */
void ready_view_begin(struct ready_view *view, const void *members, uint32_t n,
    size_t txn_id, int64_t now_ms);
void ready_view_end(struct ready_view *view);

void ready_view_set(struct ready_view *view, uint32_t member);
bool ready_view_has(const struct ready_view *view, uint32_t member);

/* A member that is not ready now will be at until_ms; 0: not a matter of time.
 */
void ready_view_until(struct ready_view *view, int64_t until_ms);

/* The first member whose bit is set in [from, end); end: none. */
uint32_t
ready_view_next(const struct ready_view *view, uint32_t from, uint32_t end);

/* How many bits are set in [first, first + n). */
uint32_t
ready_view_count(const struct ready_view *view, uint32_t first, uint32_t n);

#endif
