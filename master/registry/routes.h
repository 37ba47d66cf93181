/* SPDX-License-Identifier: MIT */
/*
 * Routes: for each model name the credentials that serve it, in tiers by
 * priority and within these by provider, and their cursors. Built from
 * entries; written to `state` only where something changed.
 */
#ifndef FL_MASTER_REGISTRY_ROUTES_H
#define FL_MASTER_REGISTRY_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/board.h"
#include "common/state.h"
#include "common/store.h"
#include "master/credential/entry.h"
#include "master/credential/name_map.h"
#include "master/credential/pool.h"

struct route_member {
	struct entry *entry;
	uint32_t cell;
	uint32_t npool; /* upstream models of the name; cell is the first's */
};

/*
 * Cursors belong to a provider's members within a tier, and to a tier of
 * several providers as a whole; they stay while there are any.
 */
struct route_cursors {
	int32_t priority;
	char *provider; /* NULL: of the tier */
	uint32_t first; /* of DIALECT_MAX */
};

struct route {
	char *name;                   /* first: the key of maps */
	struct route_member *members; /* usable ones, by id */
	size_t nmembers, cap;
	size_t known; /* entries that would serve it, usable or not */
	struct route_cursors *cursors;
	size_t ncursors;
	bool dirty;
};

struct routes {
	struct name_map map; /* struct route */
	struct pool cursors; /* groups of DIALECT_MAX */
	struct board *board;
};

void routes_init(struct routes *routes, struct board *board);
void routes_fini(struct routes *routes);

/* Takes up the cursors of a route as it stands in `state`. */
void routes_recover(struct routes *routes, const struct state_route *record);

/* An entry with its place comes, or goes just as it came. */
void routes_join(struct routes *routes, struct entry *e);
void routes_leave(struct routes *routes, struct entry *e);

/*
 * A cursor for a pool of one credential, BOARD_NONE when there is no more;
 * one that an earlier master gave; and back.
 */
uint32_t routes_take_cursor(struct routes *routes, const char *name);
bool routes_mark_cursor(struct routes *routes, uint32_t cursor);
void routes_give_cursor(struct routes *routes, uint32_t cursor);

/* All of it anew, when many entries have changed; all routes are dirty. */
void routes_rebuild(struct routes *routes, const struct name_map *entries);

/* Puts and deletes what is dirty; 0 or negative errno. */
int routes_write(
    struct routes *routes, struct store *state, MDB_txn *txn) MUST_CHECK;

/* After the commit: forgets empty routes and cursors that nobody uses. */
void routes_settle(struct routes *routes);

#endif
