/* SPDX-License-Identifier: MIT */
/*
 * The base strategies: which member of one tier serves, when no binding says
 * so. A tier's members stand in one list, those of one provider together and
 * sorted by id. A strategy knows members, weights and cursors; who passes is
 * asked of the caller.
 */
#ifndef FL_WORKER_SELECT_STRATEGY_H
#define FL_WORKER_SELECT_STRATEGY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/board.h"
#include "common/config.h"
#include "common/provider.h"
#include "common/state.h"

struct strategy_ask {
	struct board *board;
	const struct state_route *route;
	const struct state_tier *tier;
	enum dialect dialect; /* has its own cursor and weighted sequence */
	bool has_session;
	uint64_t session; /* hash, the same on every host */

	/*
	 * Whether a member can serve now. May be asked about the same member
	 * more than once.
	 */
	bool (*passes)(void *ctx, const struct state_member *member);

	/*
	 * The first member from `from` on, before `end`, that is worth asking
	 * about; `end`: none is. What is passed over by this would not pass.
	 */
	uint32_t (*next)(void *ctx, uint32_t from, uint32_t end);

	/* How many of n members from `first` on would pass. */
	uint32_t (*count)(void *ctx, uint32_t first, uint32_t n);
	void *ctx;
};

/*
 * One row per strategy.
 *
 * pick: the member that serves, or NULL when none passes. Moves the cursor by
 * compare-and-swap from what it read to one past the place it chose, so that
 * over any whole cycle with the same members each gets its share, counted
 * over all processes. A tier that was given no cursor begins at its first
 * place every time.
 *
 * on_change: where to go on when the cursor lies beyond the end or was left by
 * other members, weights or another strategy. NULL: has no cursor.
 */
struct strategy {
	const char *name; /* as configured */
	const struct state_member *(*pick)(
	    const struct strategy *self, const struct strategy_ask *ask);
	uint64_t (*on_change)(uint64_t cursor, uint64_t end);
	bool by_weight; /* who weighs nothing is out of the running */
};

const struct strategy *strategy_get(enum strategy_id id);

/*
 * The member with the highest hash of session and id among those that pass:
 * who asks with the same session gets the same member, and one that drops out
 * moves only its own sessions.
 */
const struct state_member *strategy_rendezvous(const struct strategy_ask *ask);

#endif
