/* SPDX-License-Identifier: MIT */
/*
 * The records of the `bindings` environment, one at a time: how they are
 * written down, got, put and deleted; and the two locks around every write of
 * it. What the records mean together is bindings.c's matter; only it, the
 * groups of aliases and the pins use this.
 */
#ifndef FL_COMMON_BINDING_TABLE_H
#define FL_COMMON_BINDING_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/bindings.h"
#include "common/store.h"

enum { BINDING_RECORD_VERSION = 1 };

MDB_val binding_key_val(const struct binding_key *key);
bool binding_key_same(const struct binding_key *a, const struct binding_key *b);

/* Whether the value is a binding of a version that we know. */
bool binding_decode(const MDB_val *value, struct binding *b);

/*
 * 0 with a live binding, BINDINGS_MISS, or negative errno. *stored: a record
 * stands there, live or not.
 */
int
binding_table_get(struct store *s, MDB_txn *txn, const struct binding_key *key,
    int64_t now_ms, struct binding *b, bool *stored) MUST_CHECK;
int binding_table_put(struct store *s, MDB_txn *txn,
    const struct binding_key *key, const struct binding *b) MUST_CHECK;

/* 0 with the key that an alias leads to, BINDINGS_MISS, or negative errno. */
int binding_alias_get(struct store *s, MDB_txn *txn,
    const struct binding_key *key, struct binding_key *primary) MUST_CHECK;
int binding_alias_put(struct store *s, MDB_txn *txn,
    const struct binding_key *alias,
    const struct binding_key *primary) MUST_CHECK;

/* A hint for the sweep: look at this key then. */
int binding_hint_put(struct store *s, MDB_txn *txn,
    const struct binding_key *key, int64_t at_ms) MUST_CHECK;
int binding_hint_delete(struct store *s, MDB_txn *txn,
    const struct binding_key *key, int64_t at_ms) MUST_CHECK;

/* The first hint: 0, BINDINGS_MISS when there is none, negative errno. */
int binding_hint_first(struct store *s, MDB_txn *txn, int64_t *at_ms,
    struct binding_key *key) MUST_CHECK;

/* 0 whether or not it was there. */
int binding_table_delete(struct store *s, MDB_txn *txn,
    enum bindings_table table, const struct binding_key *key) MUST_CHECK;

/*
 * Takes the board's lock, waiting wait_ms at most, then LMDB's: 0 with a
 * transaction for binding_write_end(), BINDINGS_BUSY, or negative errno.
 */
int binding_write_begin(struct store *s, struct board *board, int wait_ms,
    MDB_txn **txn) MUST_CHECK;

/*
 * Commits, if there is something to keep, and lets go of both. The result so
 * far, or negative errno.
 */
int binding_write_end(
    struct board *board, MDB_txn *txn, bool keep, int result) MUST_CHECK;

/* The same for who lets go of the board's lock later. */
int binding_commit(MDB_txn *txn, bool keep, int result) MUST_CHECK;

#endif
