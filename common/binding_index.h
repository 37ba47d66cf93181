/* SPDX-License-Identifier: MIT */
/*
 * The index of bindings on the board: what a pick of a bound session needs, in
 * one line of the cache, so that it costs the same for a thousand sessions and
 * for a million. `bindings` is the truth: an entry is dropped before a change
 * of its binding is committed and put after, both under the lock, so what is
 * found here was so a moment ago, and what is not is looked up there. Death
 * between the two leaves no entry.
 */
#ifndef FL_COMMON_BINDING_INDEX_H
#define FL_COMMON_BINDING_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bindings.h"
#include "common/board.h"

struct binding_brief {
	uint32_t slot;      /* of the credential */
	uint32_t epoch;     /* its low half; with the slot it is the one */
	int64_t expires_ms; /* up to a second early */
};

/* Whether the key has an entry. Takes no lock. */
bool binding_index_get(struct board *board, const struct binding_key *key,
    struct binding_brief *brief);

/* Who holds the lock puts what is committed, and drops before it commits. */
void binding_index_put(struct board *board, const struct binding_key *key,
    const struct binding *b);
void binding_index_drop(struct board *board, const struct binding_key *key);

/* The master's: makes room for so many sessions, as far as there is any. */
void binding_index_fit(struct board *board, int64_t sessions);

#endif
