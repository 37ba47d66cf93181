/* SPDX-License-Identifier: MIT */
/*
 * Two tables. `pin`: key -> record. `pin_expiry`: {time, key} without a value,
 * a hint: for every pin there is one at or before its expiry. Putting a pin
 * again leaves its hint behind; the sweep finds it early and files it again.
 */
#include "common/pins.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "common/binding_table.h"
#include "common/str.h"

enum { RECORD_VERSION = 1 };

/* An encoded pin: this, then the id of the credential, not terminated. */
struct record_head {
	uint8_t version;
	uint8_t credential_len;
	uint8_t reserved[6];
	int64_t expires_ms;
};

struct hint {
	uint8_t time[sizeof(uint64_t)]; /* big-endian, so that it sorts */
	uint8_t key[PIN_KEY_LEN];
};

_Static_assert(BINDING_ID_MAX - 1 <= UINT8_MAX, "lengths are one byte");

const char *
pin_kind_name(enum pin_kind kind)
{
	static const char *const names[] = {
		[PIN_NONE] = "none",
		[PIN_RESPONSE] = "previous_response_id",
		[PIN_COMPACTION] = "compaction",
		[PIN_TURN_STATE] = "x-codex-turn-state",
	};

	return names[kind];
}

void
pin_token_add(struct digest_stream *s, const char *p, size_t len)
{
	const char *end = p + len;
	const char *escape;

	while (
	    p < end && (escape = memchr(p, '\\', (size_t)(end - p))) != NULL) {
		digest_stream_add(s, p, (size_t)(escape - p));
		p = escape + 1;
	}
	digest_stream_add(s, p, (size_t)(end - p));
}

void
pin_token_digest(const char *p, size_t len, struct digest *out)
{
	struct digest_stream *s = digest_stream_new();

	pin_token_add(s, p, len);
	digest_stream_end(s, out);
}

void
pin_key_make(struct pin_key *key, const struct digest *scope,
    enum pin_kind kind, const struct digest *token)
{
	struct {
		struct digest scope;
		struct digest token;
		uint8_t kind;
	} parts = { .token = *token, .kind = (uint8_t)kind };
	struct digest d;

	if (scope != NULL)
		parts.scope = *scope;
	digest_of(&parts, sizeof(parts), &d);
	memcpy(key->bytes, d.bytes, PIN_KEY_LEN);
}

/* ---- records */

static MDB_val
key_val(const struct pin_key *key)
{
	return (MDB_val){
		.mv_size = PIN_KEY_LEN,
		.mv_data = (void *)(uintptr_t)key->bytes,
	};
}

static bool
decode(const MDB_val *value, struct pin *pin)
{
	struct record_head head;

	if (value->mv_size < sizeof(head))
		return false;
	memcpy(&head, value->mv_data, sizeof(head));
	if (head.version != RECORD_VERSION ||
	    value->mv_size != sizeof(head) + head.credential_len)
		return false;
	memcpy(pin->credential, (const char *)value->mv_data + sizeof(head),
	    head.credential_len);
	pin->credential[head.credential_len] = '\0';
	pin->expires_ms = head.expires_ms;
	return true;
}

/* 0 with a live pin, PINS_MISS, or negative errno. */
static int
get(struct store *s, MDB_txn *txn, const struct pin_key *key, int64_t now_ms,
    struct pin *pin, bool *stored)
{
	MDB_val k = key_val(key), v;
	int rc = store_errno(mdb_get(txn, s->tables[BINDINGS_PIN], &k, &v));

	*stored = rc == 0;
	if (rc == -ENOENT)
		return PINS_MISS;
	if (rc < 0)
		return rc;
	return decode(&v, pin) && pin->expires_ms > now_ms ? 0 : PINS_MISS;
}

static int
put(struct store *s, MDB_txn *txn, const struct pin_key *key,
    const struct pin *pin)
{
	size_t len = strlen(pin->credential);
	uint8_t record[sizeof(struct record_head) + BINDING_ID_MAX];
	struct record_head head = {
		.version = RECORD_VERSION,
		.credential_len = (uint8_t)len,
		.expires_ms = pin->expires_ms,
	};
	MDB_val k = key_val(key);
	MDB_val v = { .mv_data = record, .mv_size = sizeof(head) + len };

	memcpy(record, &head, sizeof(head));
	memcpy(record + sizeof(head), pin->credential, len);
	return store_errno(mdb_put(txn, s->tables[BINDINGS_PIN], &k, &v, 0));
}

static struct hint
hint_of(const struct pin_key *key, int64_t at_ms)
{
	uint64_t time = htobe64((uint64_t)at_ms);
	struct hint hint;

	memcpy(hint.time, &time, sizeof(hint.time));
	memcpy(hint.key, key->bytes, sizeof(hint.key));
	return hint;
}

static int
put_hint(
    struct store *s, MDB_txn *txn, const struct pin_key *key, int64_t at_ms)
{
	struct hint hint = hint_of(key, at_ms);
	MDB_val k = { .mv_data = &hint, .mv_size = sizeof(hint) };
	MDB_val v = { .mv_size = 0 };

	return store_errno(
	    mdb_put(txn, s->tables[BINDINGS_PIN_EXPIRY], &k, &v, 0));
}

int
pins_get(struct store *s, MDB_txn *txn, const struct pin_key *key,
    int64_t now_ms, struct pin *out)
{
	bool stored;

	return get(s, txn, key, now_ms, out, &stored);
}

bool
pins_touch_due(const struct pin *pin, int64_t ttl_ms, int64_t now_ms)
{
	int64_t remains_ms = pin->expires_ms - now_ms;

	return remains_ms < ttl_ms || remains_ms > ttl_ms + ttl_ms / 8;
}

/* ---- putting */

static int
put_one(struct store *s, MDB_txn *txn, const struct pin_key *key,
    const char *credential, int64_t ttl_ms, int64_t now_ms, bool *wrote)
{
	struct pin pin;
	bool stored;
	int rc = get(s, txn, key, now_ms, &pin, &stored);

	if (rc < 0)
		return rc;
	if (rc == 0 && strcmp(pin.credential, credential) == 0 &&
	    !pins_touch_due(&pin, ttl_ms, now_ms))
		return 0;
	*wrote = true;
	pin.expires_ms = now_ms + ttl_ms + ttl_ms / 16;
	if (!str_copy(pin.credential, sizeof(pin.credential), credential))
		return -ENAMETOOLONG;
	rc = put(s, txn, key, &pin);
	if (rc == 0 && !stored)
		rc = put_hint(s, txn, key, pin.expires_ms);
	return rc;
}

int
pins_put(struct store *s, struct board *board, const struct pin_key *keys,
    size_t nkeys, const char *credential, int64_t ttl_ms, int64_t now_ms,
    int wait_ms)
{
	bool wrote = false;
	MDB_txn *txn;
	int rc = binding_write_begin(s, board, wait_ms, &txn);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < nkeys && rc == 0; i++)
		rc = put_one(
		    s, txn, &keys[i], credential, ttl_ms, now_ms, &wrote);
	return binding_write_end(board, txn, rc == 0 && wrote, rc);
}

/* ---- the sweep */

struct sweep {
	struct store *s;
	MDB_txn *txn;
	int64_t now_ms;
	int64_t max_pins;
};

/* The first hint: 0, PINS_MISS when there is none, negative errno. */
static int
first_hint(const struct sweep *sweep, int64_t *at_ms, struct pin_key *key)
{
	MDB_cursor *cursor;
	struct hint hint;
	uint64_t time;
	MDB_val k, v;
	int rc;

	rc = store_errno(mdb_cursor_open(
	    sweep->txn, sweep->s->tables[BINDINGS_PIN_EXPIRY], &cursor));
	if (rc < 0)
		return rc;
	rc = store_errno(mdb_cursor_get(cursor, &k, &v, MDB_FIRST));
	if (rc == 0 && k.mv_size != sizeof(hint))
		rc = -EBADMSG;
	if (rc == 0) {
		memcpy(&hint, k.mv_data, sizeof(hint));
		memcpy(&time, hint.time, sizeof(time));
		memcpy(key->bytes, hint.key, PIN_KEY_LEN);
		*at_ms = (int64_t)be64toh(time);
	}
	mdb_cursor_close(cursor);
	return rc == -ENOENT ? PINS_MISS : rc;
}

/* Whether there is work, with the hint that it begins with. */
static int
next_work(const struct sweep *sweep, int64_t *at_ms, struct pin_key *key)
{
	int rc = first_hint(sweep, at_ms, key);

	if (rc != 0 || *at_ms <= sweep->now_ms)
		return rc;
	if (sweep->max_pins > 0 &&
	    pins_count(sweep->s, sweep->txn) > sweep->max_pins)
		return 0;
	return PINS_MISS;
}

/* Deals with the first hint; its pin goes unless it lives longer. */
static int
sweep_hint(const struct sweep *sweep, int64_t at_ms, const struct pin_key *key)
{
	int64_t until_ms = at_ms > sweep->now_ms ? at_ms : sweep->now_ms;
	struct store *s = sweep->s;
	struct hint hint = hint_of(key, at_ms);
	MDB_val h = { .mv_data = &hint, .mv_size = sizeof(hint) };
	MDB_val k = key_val(key);
	struct pin pin;
	bool stored;
	int rc = get(s, sweep->txn, key, until_ms, &pin, &stored);
	bool lives = rc == 0;

	if (rc < 0)
		return rc;
	rc = store_errno(
	    mdb_del(sweep->txn, s->tables[BINDINGS_PIN_EXPIRY], &h, NULL));
	if (rc == 0 && lives)
		return put_hint(s, sweep->txn, key, pin.expires_ms);
	if (rc == 0 && stored)
		rc = store_errno(
		    mdb_del(sweep->txn, s->tables[BINDINGS_PIN], &k, NULL));
	return rc;
}

/* Looks without the lock; the master calls every second. */
static int
look_for_work(struct sweep *sweep)
{
	struct pin_key key;
	int64_t at_ms;
	int rc = store_read(sweep->s, &sweep->txn);

	if (rc < 0)
		return rc;
	rc = next_work(sweep, &at_ms, &key);
	store_read_end(sweep->s);
	return rc;
}

static int
sweep_step(struct sweep *sweep, struct board *board)
{
	struct pin_key key;
	int64_t at_ms;
	int done = 0;
	int rc = binding_write_begin(sweep->s, board, 0, &sweep->txn);

	if (rc != 0)
		return rc == PINS_BUSY ? -EAGAIN : rc;
	while (done < PINS_SWEEP_STEP) {
		rc = next_work(sweep, &at_ms, &key);
		if (rc == 0)
			rc = sweep_hint(sweep, at_ms, &key);
		if (rc != 0)
			break;
		done++;
	}
	return binding_write_end(
	    board, sweep->txn, rc >= 0, rc < 0 ? rc : done);
}

int
pins_sweep(
    struct store *s, struct board *board, int64_t now_ms, int64_t max_pins)
{
	struct sweep sweep = {
		.s = s,
		.now_ms = now_ms,
		.max_pins = max_pins,
	};
	int rc = look_for_work(&sweep);

	if (rc != 0)
		return rc == PINS_MISS ? 0 : rc;
	rc = sweep_step(&sweep, board);
	/* Deleting takes pages too, and a full map may not have enough. */
	if (rc == -ENOSPC && store_make_room(s))
		rc = sweep_step(&sweep, board);
	return rc;
}

int64_t
pins_count(struct store *s, MDB_txn *txn)
{
	MDB_stat stat;

	if (mdb_stat(txn, s->tables[BINDINGS_PIN], &stat) != 0)
		return 0;
	return (int64_t)stat.ms_entries;
}
