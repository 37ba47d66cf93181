/* SPDX-License-Identifier: MIT */
/*
 * Session bindings: which credential serves a session's model. Workers bind;
 * the master sweeps. A key is H(client scope, session)[16] then
 * H(canonical model)[8], so that all models of a session stand together.
 *
 * A binding holds the epoch of its credential: unbinding or removing a
 * credential gives it a new one, and every binding of the old epoch is void
 * without a write.
 *
 * Expiry is lazy: stored as now + TTL * 17/16 and written again when less
 * than TTL remains, so it is never early, at most a sixteenth late, and the
 * turns between are read-only.
 */
#ifndef FL_COMMON_BINDINGS_H
#define FL_COMMON_BINDINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/board.h"
#include "common/secret.h"
#include "common/store.h"

enum { BINDING_KEY_LEN = 24, BINDING_SESSION_LEN = 16, BINDING_ID_MAX = 256 };

struct binding_key {
	uint8_t bytes[BINDING_KEY_LEN];
	bool prompt_cache; /* of a prompt cache key: no part of the identity */
};

/*
 * scope: digest of the client key that authenticated, NULL for an anonymous
 * client; session: the id with its prefix; model: canonical.
 */
void binding_key_make(struct binding_key *key, const struct digest *scope,
    const char *session, size_t session_len, const char *model,
    size_t model_len);

/* What a session goes by on the board and in hashes. */
uint64_t binding_session_word(const struct binding_key *key);

struct binding {
	uint64_t epoch;
	int64_t expires_ms;
	int64_t created_ms;
	uint16_t slot;   /* of the credential on the board when bound: a hint */
	char source[32]; /* what the id was taken from, for people */
	char session[24]; /* the id shortened, for people */
	char model[128];  /* cut, for people */
	char credential[BINDING_ID_MAX];
};

enum {
	BINDINGS_MISS = 1, /* none, or expired */
	BINDINGS_BUSY = 2  /* the lock was not to be had in time */
};

/*
 * Reads the live binding of a key, following an alias one hop. 0,
 * BINDINGS_MISS, or negative errno. A record that cannot be read counts as
 * none. Whether its credential still has that epoch is the caller's to check.
 */
int bindings_get(struct store *s, MDB_txn *txn, const struct binding_key *key,
    int64_t now_ms, struct binding *out) MUST_CHECK;

/*
 * Whether two keys lead to one binding: 0, BINDINGS_MISS or negative errno.
 */
int bindings_joined(struct store *s, MDB_txn *txn,
    const struct binding_key *key, const struct binding_key *alias) MUST_CHECK;

/*
 * What bind() asks while it holds the lock.
 *
 * usable: may this binding be adopted? It is called with the live binding
 * found, and never with the one that was expected to be replaced.
 * choose: fills credential, epoch, source, session, model of the binding to
 * be; non-zero ends bind() with that result and nothing written.
 */
struct bind_ops {
	bool (*usable)(void *ctx, const struct binding *found);
	int (*choose)(void *ctx, struct binding *chosen);
	void *ctx;
};

enum bind_outcome { BIND_ADOPTED, BIND_NEW, BIND_MOVED };

/*
 * bind(key, expected) -> winner, in one write transaction: reads again;
 * bound to something usable other than `expected` -> adopts it; else chooses
 * and puts. expected: id of the credential that has just failed, or NULL.
 * alias: a second key of the session, or NULL; if the key itself is unbound
 * but the alias has a live, usable binding, that one is inherited. From then
 * on the two, and all that were bound together with either, are one group:
 * they move together and are kept alive together. A group keeps its newest
 * prompt cache key and its 64 newest others.
 *
 * 0 with *winner and *outcome; BINDINGS_BUSY; the result of choose; or
 * negative errno (-ENOSPC: map or disk full; serve unbound). An inherited
 * binding counts as BIND_ADOPTED.
 */
int bindings_bind(struct store *s, struct board *board,
    const struct binding_key *key, const struct binding_key *alias,
    const char *expected, int64_t ttl_ms, int64_t now_ms, int wait_ms,
    const struct bind_ops *ops, struct binding *winner,
    enum bind_outcome *outcome) MUST_CHECK;

/*
 * Puts what a key is bound to into the index on the board, if the lock is to
 * be had at once; slot: the place of its credential. 0, BINDINGS_MISS,
 * BINDINGS_BUSY or negative errno: it is a matter of speed alone.
 */
int bindings_index(struct store *s, struct board *board,
    const struct binding_key *key, int64_t now_ms, uint16_t slot);

/*
 * Whether a touch is due: less than ttl_ms remains, or so much more that the
 * TTL was longer when it was stored.
 */
bool
bindings_touch_due(const struct binding *b, int64_t ttl_ms, int64_t now_ms);

/*
 * Extends a binding that is still bound to `credential`, and makes the key the
 * newest of its group; otherwise changes nothing. 0, BINDINGS_MISS,
 * BINDINGS_BUSY or negative errno.
 */
int bindings_touch(struct store *s, struct board *board,
    const struct binding_key *key, const char *credential, int64_t ttl_ms,
    int64_t now_ms, int wait_ms);

/*
 * Unbinds a key that is still bound to `credential` (NULL: to any). Others of
 * its group stay bound. 0, BINDINGS_MISS, BINDINGS_BUSY, or negative errno.
 */
int bindings_unbind(struct store *s, struct board *board,
    const struct binding_key *key, const char *credential,
    int wait_ms) MUST_CHECK;

/*
 * Removes the bindings of a session, whatever the model of the key, with all
 * that leads to them. *removed: keys. 0, BINDINGS_MISS, BINDINGS_BUSY (it only
 * tries), or negative errno. To void all bindings of a credential give it a
 * new epoch (publisher_unbind()).
 */
int bindings_unbind_session(struct store *s, struct board *board,
    const struct binding_key *key, size_t *removed) MUST_CHECK;

enum { BINDINGS_SWEEP_STEP = 64 };

/*
 * One bounded step of the sweep, the master's: removes what has expired,
 * BINDINGS_SWEEP_STEP entries and the rest of the last one's group at most, and
 * beyond max_sessions (0: without limit) those that were extended longest ago.
 * Only tries the lock, and not even that when there is nothing to do. Returns
 * how many it removed or re-filed (a full step means there may be more),
 * -EAGAIN, or negative errno.
 */
int bindings_sweep(struct store *s, struct board *board, int64_t now_ms,
    int64_t max_sessions) MUST_CHECK;

typedef int
binding_fn(void *ctx, const struct binding_key *key, const struct binding *b);

/* All live bindings in key order; fn returns non-zero to stop. */
int bindings_each(
    struct store *s, MDB_txn *txn, int64_t now_ms, binding_fn *fn, void *ctx);

/*
 * A part of that walk, so that nobody is kept waiting by a million of them. It
 * begins with the first key that is not less than `begin`, looks at most at
 * `most` records, live or not, and ends early when fn returns non-zero, which
 * is no failure. more: there is more, from the key that is then in `begin`.
 */
struct bindings_page {
	uint8_t begin[BINDING_KEY_LEN];
	size_t most;
	bool more;
};
int bindings_each_in(struct store *s, MDB_txn *txn, int64_t now_ms,
    struct bindings_page *page, binding_fn *fn, void *ctx) MUST_CHECK;

/*
 * The live bindings of a session, whatever the model of the key; of the
 * session it is a second id of, where it is one. fn returns non-zero to stop.
 */
int bindings_of_session(struct store *s, MDB_txn *txn,
    const struct binding_key *key, int64_t now_ms, binding_fn *fn, void *ctx);

/* Bindings stored, those included that expired and were not yet swept. */
int64_t bindings_count(struct store *s, MDB_txn *txn);

#endif
