/* SPDX-License-Identifier: MIT */
/*
 * Health: the master's side of the words on the board. What workers raise is
 * written to the `health` table, so that it outlives the board; only here are
 * words lowered.
 */
#ifndef FL_MASTER_REGISTRY_HEALTH_H
#define FL_MASTER_REGISTRY_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/board.h"
#include "common/ipc.h"
#include "common/state.h"
#include "common/store.h"
#include "master/credential/entry.h"
#include "master/credential/name_map.h"

/* What a change of a credential makes of its failures. */
enum health_change {
	HEALTH_KEEP,
	HEALTH_NEW_TOKEN,  /* what the old token was refused for is over */
	HEALTH_NEW_TARGET, /* all but a quota whose deadline lies ahead */
	HEALTH_ALL         /* cooling has been switched off */
};

/* The change from what was published to what is to be, enabled both. */
enum health_change
health_compare(const struct entry *was, const struct entry *now);

/*
 * Forgets the failures that a change ends: first, within the transaction of
 * the change, the records; once that is committed, the words.
 */
int health_forget(struct store *state, struct board *board, MDB_txn *txn,
    const struct entry *e, enum health_change change) MUST_CHECK;
void health_lower(
    struct board *board, const struct entry *e, enum health_change change);

/* Deletes the records of models that `now` has not; NULL: all of them. */
int health_prune(struct store *state, MDB_txn *txn, const struct entry *was,
    const struct entry *now) MUST_CHECK;

/*
 * Fills the cells of entries that were read back, where the board has not got
 * them: a board that is new. Clean but for what the table knows.
 */
int health_restore(struct store *state, MDB_txn *txn, struct board *board,
    const struct name_map *entries) MUST_CHECK;

/*
 * An outcome from a worker, for the entry of its slot (NULL: none). A
 * failure: what the cell says now is recorded. A success: the cell is
 * lowered, unless a quota of the whole credential is open, or the deadline
 * that the worker saw (until_ms; 0: not said) has been overtaken. 0, also if
 * it came too late to matter, or negative errno from writing the record.
 */
int health_result(struct store *state, struct board *board,
    const struct entry *e, const struct ipc_result *result) MUST_CHECK;

/* By hand: clears everything, records first. 0 or negative errno. */
int health_reset(
    struct store *state, struct board *board, const struct entry *e) MUST_CHECK;

/*
 * Walks the cells of an entry: the credential as a whole first, under model
 * "", then each model that has a state, once.
 */
typedef int
health_cell_fn(void *ctx, const char *model, struct board_cell *cell);
int health_each_cell(
    struct board *board, const struct entry *e, health_cell_fn *fn, void *ctx);

#endif
