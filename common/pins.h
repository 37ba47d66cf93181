/* SPDX-License-Identifier: MIT */
/*
 * Pins: what only one account can read, and which credential that is. The id
 * of a stored response, a compaction item and a turn state are of use to the
 * account that gave them out and to no other, so a request that brings one
 * back has to go there. A pin is a fact and no decision: it outlives the
 * unbinding of its credential, and moves no session.
 *
 * Pins live in the environment `bindings`, in tables of their own: the key is
 * made of the client's scope, the kind and the digest of what the client will
 * send back. They expire as bindings do, lazily: stored as now + TTL * 17/16,
 * written again when less than TTL remains.
 */
#ifndef FL_COMMON_PINS_H
#define FL_COMMON_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attr.h"
#include "common/bindings.h"
#include "common/board.h"
#include "common/secret.h"
#include "common/store.h"

enum pin_kind {
	PIN_NONE,
	PIN_RESPONSE,   /* the id of a response: previous_response_id */
	PIN_COMPACTION, /* encrypted content of a compaction item */
	PIN_TURN_STATE  /* x-codex-turn-state */
};

/* "none", "previous_response_id", "compaction", "x-codex-turn-state". */
const char *pin_kind_name(enum pin_kind kind);

enum { PIN_KEY_LEN = 16 };

struct pin_key {
	uint8_t bytes[PIN_KEY_LEN];
};

/*
 * Adds bytes of a token as it stands in JSON. Backslashes count for nothing,
 * so that "a\/b" and "a/b" are one token; tokens have no other escapes.
 */
void pin_token_add(struct digest_stream *s, const char *p, size_t len);

/* The same in one go. */
void pin_token_digest(const char *p, size_t len, struct digest *out);

/* scope: digest of the client's key, NULL for an anonymous client. */
void pin_key_make(struct pin_key *key, const struct digest *scope,
    enum pin_kind kind, const struct digest *token);

struct pin {
	int64_t expires_ms;
	char credential[BINDING_ID_MAX];
};

enum {
	PINS_MISS = 1,            /* none, or expired */
	PINS_BUSY = BINDINGS_BUSY /* the lock was not to be had in time */
};

/* 0, PINS_MISS, or negative errno. A record that cannot be read is none. */
int pins_get(struct store *s, MDB_txn *txn, const struct pin_key *key,
    int64_t now_ms, struct pin *out) MUST_CHECK;

/* Whether a pin that was found is to be put again, because time has passed. */
bool pins_touch_due(const struct pin *pin, int64_t ttl_ms, int64_t now_ms);

/*
 * Pins keys to a credential, in one transaction; what is pinned elsewhere
 * moves. Keys that stand as they should are not written. 0, PINS_BUSY, or
 * negative errno.
 */
int pins_put(struct store *s, struct board *board, const struct pin_key *keys,
    size_t nkeys, const char *credential, int64_t ttl_ms, int64_t now_ms,
    int wait_ms) MUST_CHECK;

enum { PINS_SWEEP_STEP = 64 };

/*
 * One bounded step of the sweep: removes what has expired, and beyond
 * max_pins (0: without limit) what was put longest ago. Only tries the lock.
 * How many it removed or re-filed (a full step: there may be more), -EAGAIN,
 * or negative errno.
 */
int pins_sweep(struct store *s, struct board *board, int64_t now_ms,
    int64_t max_pins) MUST_CHECK;

/* Pins stored, those included that expired and were not yet swept. */
int64_t pins_count(struct store *s, MDB_txn *txn);

#endif
