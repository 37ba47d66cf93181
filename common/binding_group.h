/* SPDX-License-Identifier: MIT */
/*
 * Groups: the keys of one session for one model that are bound together. One
 * of them, the primary, holds the binding; the others lead to it. So all move
 * and live on together. The list is in the order in which keys came, newest
 * first, and is cut by that: of the prompt cache keys one stays, of all others
 * GROUP_STABLE_MAX.
 */
#ifndef FL_COMMON_BINDING_GROUP_H
#define FL_COMMON_BINDING_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/bindings.h"
#include "common/store.h"

enum { GROUP_STABLE_MAX = 64, GROUP_MAX = 1 + GROUP_STABLE_MAX };

/* All members are of one model. */
struct group_member {
	uint8_t session[BINDING_SESSION_LEN];
	uint8_t prompt_cache;
};

struct binding_group {
	size_t n;
	struct group_member members[2 * GROUP_MAX + 2]; /* two, and a pair */
};

/* Appends what is not there yet. */
void
binding_group_add(struct binding_group *group, const struct binding_key *key);
void binding_group_add_all(
    struct binding_group *group, const struct binding_group *more);

void binding_group_remove(
    struct binding_group *group, const struct binding_key *key);
bool binding_group_has(
    const struct binding_group *group, const struct binding_key *key);

/* Cuts the list to its caps. */
void binding_group_compact(struct binding_group *group);

/* The key of a member; primary lends the model. */
struct binding_key binding_group_key(const struct binding_group *group,
    size_t i, const struct binding_key *primary);

/* The members that lead to a primary key, itself included. */
int binding_group_load(struct store *s, MDB_txn *txn,
    const struct binding_key *primary, struct binding_group *group) MUST_CHECK;

/* Writes the list, and makes its other members lead to the primary key. */
int binding_group_save(struct store *s, MDB_txn *txn,
    const struct binding_key *primary,
    const struct binding_group *group) MUST_CHECK;

/*
 * Lets go of the members that are not in `kept` (NULL: of all). The binding
 * of the primary key, and its list, are left alone.
 */
int binding_group_leave(struct store *s, MDB_txn *txn,
    const struct binding_key *primary, const struct binding_group *group,
    const struct binding_group *kept) MUST_CHECK;

/*
 * Removes a binding with its list and all that leads to it, also from the
 * index. Adds the number
 * of keys to *removed.
 */
int binding_group_dissolve(struct store *s, MDB_txn *txn, struct board *board,
    const struct binding_key *primary, size_t *removed) MUST_CHECK;

/* Drops all members from the index: their binding is about to change. */
void binding_group_drop(struct board *board, const struct binding_key *primary,
    const struct binding_group *group);

#endif
