/* SPDX-License-Identifier: MIT */
/*
 * Groups of aliases; see binding_group.h. A list is stored only where there is
 * more than the primary key.
 */
#include "common/binding_group.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/attr.h"
#include "common/binding_index.h"
#include "common/binding_table.h"

struct group_record {
	uint8_t version;
	struct group_member members[GROUP_MAX];
};

static size_t
find(const struct binding_group *group, const uint8_t *session)
{
	size_t i;

	for (i = 0; i < group->n; i++) {
		if (memcmp(group->members[i].session, session,
			BINDING_SESSION_LEN) == 0)
			break;
	}
	return i;
}

static void
add(struct binding_group *group, const struct group_member *member)
{
	if (find(group, member->session) < group->n)
		return;
	assert(group->n < ARRAY_LEN(group->members));
	group->members[group->n++] = *member;
}

void
binding_group_add(struct binding_group *group, const struct binding_key *key)
{
	struct group_member member = { .prompt_cache = key->prompt_cache };

	memcpy(member.session, key->bytes, BINDING_SESSION_LEN);
	add(group, &member);
}

void
binding_group_add_all(
    struct binding_group *group, const struct binding_group *more)
{
	for (size_t i = 0; i < more->n; i++)
		add(group, &more->members[i]);
}

void
binding_group_remove(struct binding_group *group, const struct binding_key *key)
{
	size_t i = find(group, key->bytes);

	if (i == group->n)
		return;
	group->n--;
	memmove(&group->members[i], &group->members[i + 1],
	    (group->n - i) * sizeof(group->members[0]));
}

bool
binding_group_has(
    const struct binding_group *group, const struct binding_key *key)
{
	return find(group, key->bytes) < group->n;
}

void
binding_group_compact(struct binding_group *group)
{
	size_t caches = 0, stable = 0, kept = 0;
	const struct group_member *member;

	for (size_t i = 0; i < group->n; i++) {
		member = &group->members[i];
		if (member->prompt_cache ? caches++ == 0
					 : stable++ < GROUP_STABLE_MAX)
			group->members[kept++] = *member;
	}
	group->n = kept;
}

struct binding_key
binding_group_key(const struct binding_group *group, size_t i,
    const struct binding_key *primary)
{
	const struct group_member *member = &group->members[i];
	struct binding_key key = *primary;

	memcpy(key.bytes, member->session, BINDING_SESSION_LEN);
	key.prompt_cache = member->prompt_cache != 0;
	return key;
}

int
binding_group_load(struct store *s, MDB_txn *txn,
    const struct binding_key *primary, struct binding_group *group)
{
	MDB_val k = binding_key_val(primary), v;
	struct group_record record;
	size_t bytes;
	int rc;

	group->n = 0;
	rc = store_errno(mdb_get(txn, s->tables[BINDINGS_GROUP], &k, &v));
	if (rc == 0 && v.mv_size > 1 && v.mv_size <= sizeof(record)) {
		memcpy(&record, v.mv_data, v.mv_size);
		bytes = v.mv_size - 1;
		if (record.version == BINDING_RECORD_VERSION &&
		    bytes % sizeof(record.members[0]) == 0) {
			group->n = bytes / sizeof(record.members[0]);
			memcpy(group->members, record.members, bytes);
		}
	}
	/* A damaged list counts as none. */
	binding_group_add(group, primary);
	return rc == -ENOENT ? 0 : rc;
}

static int
put_list(struct store *s, MDB_txn *txn, const struct binding_key *primary,
    const struct binding_group *group)
{
	struct group_record record = { .version = BINDING_RECORD_VERSION };
	size_t bytes = group->n * sizeof(record.members[0]);
	MDB_val k = binding_key_val(primary);
	MDB_val v = { .mv_size = 1 + bytes, .mv_data = &record };

	assert(group->n <= GROUP_MAX);
	memcpy(record.members, group->members, bytes);
	return store_errno(mdb_put(txn, s->tables[BINDINGS_GROUP], &k, &v, 0));
}

/* Makes a key lead to the primary one, unless it does. */
static int
lead(struct store *s, MDB_txn *txn, const struct binding_key *key,
    const struct binding_key *primary)
{
	struct binding_key now;
	int rc = binding_alias_get(s, txn, key, &now);

	if (rc < 0 || (rc == 0 && binding_key_same(&now, primary)))
		return rc;
	return binding_alias_put(s, txn, key, primary);
}

int
binding_group_save(struct store *s, MDB_txn *txn,
    const struct binding_key *primary, const struct binding_group *group)
{
	struct binding_key key;
	int rc = 0;

	if (group->n <= 1)
		return binding_table_delete(s, txn, BINDINGS_GROUP, primary);
	for (size_t i = 0; rc == 0 && i < group->n; i++) {
		key = binding_group_key(group, i, primary);
		if (!binding_key_same(&key, primary))
			rc = lead(s, txn, &key, primary);
	}
	return rc == 0 ? put_list(s, txn, primary, group) : rc;
}

/* An alias may have come to lead elsewhere since. */
static int
let_go(struct store *s, MDB_txn *txn, const struct binding_key *key,
    const struct binding_key *primary)
{
	struct binding_key now;
	int rc = binding_alias_get(s, txn, key, &now);

	if (rc != 0 || !binding_key_same(&now, primary))
		return rc < 0 ? rc : 0;
	return binding_table_delete(s, txn, BINDINGS_ALIAS, key);
}

int
binding_group_leave(struct store *s, MDB_txn *txn,
    const struct binding_key *primary, const struct binding_group *group,
    const struct binding_group *kept)
{
	struct binding_key key;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < group->n; i++) {
		key = binding_group_key(group, i, primary);
		if (binding_key_same(&key, primary) ||
		    (kept != NULL && binding_group_has(kept, &key)))
			continue;
		rc = let_go(s, txn, &key, primary);
	}
	return rc;
}

void
binding_group_drop(struct board *board, const struct binding_key *primary,
    const struct binding_group *group)
{
	struct binding_key key;

	for (size_t i = 0; i < group->n; i++) {
		key = binding_group_key(group, i, primary);
		binding_index_drop(board, &key);
	}
}

int
binding_group_dissolve(struct store *s, MDB_txn *txn, struct board *board,
    const struct binding_key *primary, size_t *removed)
{
	struct binding_group group;
	int rc;

	rc = binding_group_load(s, txn, primary, &group);
	binding_group_drop(board, primary, &group);
	if (rc == 0)
		rc = binding_group_leave(s, txn, primary, &group, NULL);
	if (rc == 0 && group.n > 1)
		rc = binding_table_delete(s, txn, BINDINGS_GROUP, primary);
	if (rc == 0)
		rc = binding_table_delete(s, txn, BINDINGS_BINDING, primary);
	*removed += group.n;
	return rc;
}
