/* SPDX-License-Identifier: MIT */
/*
 * Three tables. `binding`: key -> encoded binding. `alias`: key -> primary
 * key. `expiry`: {time, key} without a value, a hint: for every binding and
 * alias there is one at or before its expiry. Touching a binding leaves its
 * hint behind; the sweep finds it early and files it again.
 */
#include "common/bindings.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "common/state.h"
#include "common/str.h"

enum {
	RECORD_VERSION = 1,
	RECORD_MAX = sizeof(struct binding) + 64,
	EXPIRY_KEY_LEN = sizeof(uint64_t) + BINDING_KEY_LEN
};

/* An encoded binding: this, then the four strings without terminators. */
struct record_head {
	uint8_t version;
	uint8_t source_len;
	uint8_t session_len;
	uint8_t model_len;
	uint8_t credential_len;
	uint8_t reserved;
	uint16_t slot;
	uint64_t epoch;
	int64_t expires_ms;
	int64_t created_ms;
};

struct alias_record {
	uint8_t version;
	uint8_t primary[BINDING_KEY_LEN];
};

struct expiry_key {
	uint8_t time[sizeof(uint64_t)]; /* big-endian, so that it sorts */
	uint8_t key[BINDING_KEY_LEN];
};

_Static_assert(BINDING_ID_MAX - 1 <= UINT8_MAX, "lengths are one byte");
_Static_assert(sizeof(struct expiry_key) == EXPIRY_KEY_LEN, "no padding");

/* Where a key leads. */
struct target {
	struct binding_key key; /* the primary one */
	bool stored;            /* a binding stands there, live or not */
	bool live;
};

void
binding_key_make(struct binding_key *key, const struct digest *scope,
    const char *session, size_t session_len, const char *model,
    size_t model_len)
{
	struct {
		struct digest scope;
		struct digest session;
	} parts = { 0 };
	struct digest d;
	uint64_t h = htobe64(state_model_hash(model, model_len));

	if (scope != NULL)
		parts.scope = *scope;
	digest_of(session, session_len, &parts.session);
	digest_of(&parts, sizeof(parts), &d);
	memcpy(key->bytes, d.bytes, BINDING_SESSION_LEN);
	memcpy(key->bytes + BINDING_SESSION_LEN, &h, sizeof(h));
}

static int64_t
expiry_at(int64_t now_ms, int64_t ttl_ms)
{
	return now_ms + ttl_ms + ttl_ms / 16;
}

bool
bindings_touch_due(const struct binding *b, int64_t ttl_ms, int64_t now_ms)
{
	int64_t remains_ms = b->expires_ms - now_ms;

	return remains_ms < ttl_ms || remains_ms > ttl_ms + ttl_ms / 8;
}

static MDB_val
key_val(const struct binding_key *key)
{
	return (MDB_val){
		.mv_size = BINDING_KEY_LEN,
		.mv_data = (void *)(uintptr_t)key->bytes,
	};
}

static size_t
encode_string(uint8_t *p, const char *s, size_t size, uint8_t *len)
{
	*len = (uint8_t)strnlen(s, size - 1);
	memcpy(p, s, *len);
	return *len;
}

static size_t
encode(const struct binding *b, uint8_t record[RECORD_MAX])
{
	struct record_head head = {
		.version = RECORD_VERSION,
		.slot = b->slot,
		.epoch = b->epoch,
		.expires_ms = b->expires_ms,
		.created_ms = b->created_ms,
	};
	uint8_t *p = record + sizeof(head);

	p += encode_string(p, b->source, sizeof(b->source), &head.source_len);
	p +=
	    encode_string(p, b->session, sizeof(b->session), &head.session_len);
	p += encode_string(p, b->model, sizeof(b->model), &head.model_len);
	p += encode_string(
	    p, b->credential, sizeof(b->credential), &head.credential_len);
	memcpy(record, &head, sizeof(head));
	return (size_t)(p - record);
}

static const uint8_t *
decode_string(const uint8_t *p, uint8_t len, char *dst, size_t size)
{
	size_t n = len < size ? len : size - 1;

	memcpy(dst, p, n);
	dst[n] = '\0';
	return p + len;
}

/* Whether the value is a binding of a version that we know. */
static bool
decode(const MDB_val *value, struct binding *b)
{
	const uint8_t *p = value->mv_data;
	struct record_head head;

	if (value->mv_size < sizeof(head))
		return false;
	memcpy(&head, p, sizeof(head));
	if (head.version != RECORD_VERSION ||
	    value->mv_size != sizeof(head) + head.source_len +
				  head.session_len + head.model_len +
				  head.credential_len)
		return false;
	p += sizeof(head);
	p = decode_string(p, head.source_len, b->source, sizeof(b->source));
	p = decode_string(p, head.session_len, b->session, sizeof(b->session));
	p = decode_string(p, head.model_len, b->model, sizeof(b->model));
	(void)decode_string(
	    p, head.credential_len, b->credential, sizeof(b->credential));
	b->slot = head.slot;
	b->epoch = head.epoch;
	b->expires_ms = head.expires_ms;
	b->created_ms = head.created_ms;
	return true;
}

/* 0 with a live binding, BINDINGS_MISS, or negative errno. */
static int
get_binding(struct store *s, MDB_txn *txn, const struct binding_key *key,
    int64_t now_ms, struct binding *b, bool *stored)
{
	MDB_val k = key_val(key), v;
	int rc;

	rc = store_errno(mdb_get(txn, s->tables[BINDINGS_BINDING], &k, &v));
	*stored = rc == 0;
	if (rc == -ENOENT)
		return BINDINGS_MISS;
	if (rc < 0)
		return rc;
	return decode(&v, b) && b->expires_ms > now_ms ? 0 : BINDINGS_MISS;
}

/* 0 with the primary key, BINDINGS_MISS, or negative errno. */
static int
get_alias(struct store *s, MDB_txn *txn, const struct binding_key *key,
    struct binding_key *primary)
{
	MDB_val k = key_val(key), v;
	struct alias_record record;
	int rc;

	rc = store_errno(mdb_get(txn, s->tables[BINDINGS_ALIAS], &k, &v));
	if (rc == -ENOENT)
		return BINDINGS_MISS;
	if (rc < 0)
		return rc;
	if (v.mv_size != sizeof(record))
		return BINDINGS_MISS;
	memcpy(&record, v.mv_data, sizeof(record));
	if (record.version != RECORD_VERSION)
		return BINDINGS_MISS;
	memcpy(primary->bytes, record.primary, BINDING_KEY_LEN);
	return 0;
}

/*
 * Where a key leads: to itself, unless it is the alias of a live binding. 0
 * with the live binding, BINDINGS_MISS, or negative errno.
 */
static int
find_target(struct store *s, MDB_txn *txn, const struct binding_key *key,
    int64_t now_ms, struct target *t, struct binding *b)
{
	struct binding_key primary;
	bool stored;
	int rc;

	t->key = *key;
	rc = get_binding(s, txn, key, now_ms, b, &t->stored);
	if (rc == BINDINGS_MISS) {
		rc = get_alias(s, txn, key, &primary);
		if (rc == 0)
			rc = get_binding(s, txn, &primary, now_ms, b, &stored);
		if (rc == 0) {
			t->key = primary;
			t->stored = true;
		}
	}
	t->live = rc == 0;
	return rc;
}

int
bindings_get(struct store *s, MDB_txn *txn, const struct binding_key *key,
    int64_t now_ms, struct binding *out)
{
	struct target t;

	return find_target(s, txn, key, now_ms, &t, out);
}

static int
put_binding(struct store *s, MDB_txn *txn, const struct binding_key *key,
    const struct binding *b)
{
	uint8_t record[RECORD_MAX];
	MDB_val k = key_val(key);
	MDB_val v = { .mv_data = record, .mv_size = encode(b, record) };

	return store_errno(
	    mdb_put(txn, s->tables[BINDINGS_BINDING], &k, &v, 0));
}

static int
put_hint(
    struct store *s, MDB_txn *txn, const struct binding_key *key, int64_t at_ms)
{
	uint64_t time = htobe64((uint64_t)at_ms);
	struct expiry_key hint;
	MDB_val k = { .mv_data = &hint, .mv_size = sizeof(hint) };
	MDB_val v = { .mv_size = 0 };

	memcpy(hint.time, &time, sizeof(hint.time));
	memcpy(hint.key, key->bytes, sizeof(hint.key));
	return store_errno(mdb_put(txn, s->tables[BINDINGS_EXPIRY], &k, &v, 0));
}

/* 0 whether or not it was there. */
static int
delete_key(struct store *s, MDB_txn *txn, enum bindings_table table,
    const struct binding_key *key)
{
	MDB_val k = key_val(key);
	int rc;

	rc = store_errno(mdb_del(txn, s->tables[table], &k, NULL));
	return rc == -ENOENT ? 0 : rc;
}

static bool
same_key(const struct binding_key *a, const struct binding_key *b)
{
	return memcmp(a->bytes, b->bytes, BINDING_KEY_LEN) == 0;
}

static int
put_alias(struct store *s, MDB_txn *txn, const struct binding_key *alias,
    const struct binding_key *primary)
{
	struct alias_record record = { .version = RECORD_VERSION };
	MDB_val k = key_val(alias);
	MDB_val v = { .mv_data = &record, .mv_size = sizeof(record) };

	memcpy(record.primary, primary->bytes, BINDING_KEY_LEN);
	return store_errno(mdb_put(txn, s->tables[BINDINGS_ALIAS], &k, &v, 0));
}

/* One bind() while it holds the lock. */
struct bind {
	struct store *s;
	MDB_txn *txn;
	const struct binding_key *key;
	const struct binding_key *alias;
	const char *expected;
	int64_t ttl_ms;
	int64_t now_ms;
	const struct bind_ops *ops;
	bool wrote;
};

/*
 * Makes the alias lead to the primary key; a binding of its own gives way. A
 * new alias needs a hint of its own, a former binding has left one.
 */
static int
lead_alias(
    struct bind *bind, const struct binding_key *primary, int64_t expires_ms)
{
	struct store *s = bind->s;
	struct binding_key leads_to;
	struct binding own;
	bool stored;
	int known, rc;

	if (bind->alias == NULL || same_key(bind->alias, primary))
		return 0;
	rc =
	    get_binding(s, bind->txn, bind->alias, bind->now_ms, &own, &stored);
	if (rc < 0)
		return rc;
	known = get_alias(s, bind->txn, bind->alias, &leads_to);
	if (known < 0)
		return known;
	if (!stored && known == 0 && same_key(&leads_to, primary))
		return 0;

	bind->wrote = true;
	rc = delete_key(s, bind->txn, BINDINGS_BINDING, bind->alias);
	if (rc == 0)
		rc = put_alias(s, bind->txn, bind->alias, primary);
	if (rc == 0 && !stored && known == BINDINGS_MISS)
		rc = put_hint(s, bind->txn, bind->alias, expires_ms);
	return rc;
}

static bool
may_adopt(const struct bind *bind, const struct binding *found)
{
	if (bind->expected != NULL &&
	    strcmp(found->credential, bind->expected) == 0)
		return false;
	return bind->ops->usable(bind->ops->ctx, found);
}

/* Stores a binding under the target's key, with a hint if it is new there. */
static int
store_binding(struct bind *bind, const struct target *target, struct binding *b)
{
	int rc;

	bind->wrote = true;
	b->expires_ms = expiry_at(bind->now_ms, bind->ttl_ms);
	rc = put_binding(bind->s, bind->txn, &target->key, b);
	if (rc == 0 && !target->stored)
		rc = put_hint(bind->s, bind->txn, &target->key, b->expires_ms);
	if (rc == 0)
		rc = lead_alias(bind, &target->key, b->expires_ms);
	return rc;
}

/* former: the live binding that is replaced, NULL: there was none. */
static int
bind_chosen(struct bind *bind, const struct target *target,
    const struct binding *former, struct binding *winner,
    enum bind_outcome *outcome)
{
	int rc;

	memset(winner, 0, sizeof(*winner));
	rc = bind->ops->choose(bind->ops->ctx, winner);
	if (rc != 0)
		return rc;
	winner->created_ms = former != NULL ? former->created_ms : bind->now_ms;
	*outcome = former != NULL ? BIND_MOVED : BIND_NEW;
	return store_binding(bind, target, winner);
}

static int
bind_locked(
    struct bind *bind, struct binding *winner, enum bind_outcome *outcome)
{
	struct target own, inherited;
	struct binding found;
	int rc;

	*outcome = BIND_ADOPTED;
	rc = find_target(
	    bind->s, bind->txn, bind->key, bind->now_ms, &own, &found);
	if (rc == 0 && may_adopt(bind, &found)) {
		*winner = found;
		return lead_alias(bind, &own.key, winner->expires_ms);
	}
	if (rc == BINDINGS_MISS && bind->alias != NULL) {
		rc = find_target(bind->s, bind->txn, bind->alias, bind->now_ms,
		    &inherited, &found);
		if (rc == 0 && may_adopt(bind, &found)) {
			*winner = found;
			return store_binding(bind, &own, winner);
		}
	}
	if (rc < 0)
		return rc;
	return bind_chosen(
	    bind, &own, rc == 0 ? &found : NULL, winner, outcome);
}

/* Takes the board's lock, then LMDB's. 0, BINDINGS_BUSY, negative errno. */
static int
begin_write(struct store *s, struct board *board, int wait_ms, MDB_txn **txn)
{
	int rc;

	rc = board_bind_lock(board, wait_ms);
	if (rc != 0)
		return rc == BOARD_LOCK_BUSY ? BINDINGS_BUSY : rc;
	rc = store_write(s, txn);
	if (rc < 0)
		board_bind_unlock(board);
	return rc;
}

/* Commits if there is something to keep; the result so far, or a failure. */
static int
end_write(struct board *board, MDB_txn *txn, bool keep, int result)
{
	int rc = 0;

	if (keep)
		rc = store_commit(txn);
	else
		mdb_txn_abort(txn);
	board_bind_unlock(board);
	return rc < 0 ? rc : result;
}

int
bindings_bind(struct store *s, struct board *board,
    const struct binding_key *key, const struct binding_key *alias,
    const char *expected, int64_t ttl_ms, int64_t now_ms, int wait_ms,
    const struct bind_ops *ops, struct binding *winner,
    enum bind_outcome *outcome)
{
	struct bind bind = {
		.s = s,
		.key = key,
		.alias = alias,
		.expected = expected,
		.ttl_ms = ttl_ms,
		.now_ms = now_ms,
		.ops = ops,
	};
	int rc;

	rc = begin_write(s, board, wait_ms, &bind.txn);
	if (rc != 0)
		return rc;
	rc = bind_locked(&bind, winner, outcome);
	return end_write(board, bind.txn, rc == 0 && bind.wrote, rc);
}

int
bindings_touch(struct store *s, struct board *board,
    const struct binding_key *key, const char *credential, int64_t ttl_ms,
    int64_t now_ms, int wait_ms)
{
	struct target t;
	struct binding b;
	MDB_txn *txn;
	bool due = false;
	int rc;

	rc = begin_write(s, board, wait_ms, &txn);
	if (rc != 0)
		return rc;
	rc = find_target(s, txn, key, now_ms, &t, &b);
	if (rc == 0 && strcmp(b.credential, credential) != 0)
		rc = BINDINGS_MISS;
	if (rc == 0)
		due = bindings_touch_due(&b, ttl_ms, now_ms);
	if (due) {
		b.expires_ms = expiry_at(now_ms, ttl_ms);
		rc = put_binding(s, txn, &t.key, &b);
	}
	return end_write(board, txn, rc == 0 && due, rc);
}

int
bindings_unbind(struct store *s, struct board *board,
    const struct binding_key *key, const char *credential)
{
	struct target t;
	struct binding b;
	MDB_txn *txn;
	int rc;

	rc = begin_write(s, board, 0, &txn);
	if (rc != 0)
		return rc;
	/* What has expired but was not swept goes as well: time has no say. */
	rc = find_target(s, txn, key, 0, &t, &b);
	if (rc == 0 && credential != NULL &&
	    strcmp(b.credential, credential) != 0)
		rc = BINDINGS_MISS;
	if (rc == 0)
		rc = delete_key(s, txn, BINDINGS_BINDING, &t.key);
	return end_write(board, txn, rc == 0, rc);
}

/* One step of the sweep. */
struct sweep {
	struct store *s;
	MDB_txn *txn;
	int64_t now_ms;
	int64_t max_sessions;
};

/* The first hint: 0, BINDINGS_MISS when there is none, negative errno. */
static int
first_hint(
    struct store *s, MDB_txn *txn, int64_t *at_ms, struct binding_key *key)
{
	MDB_cursor *cursor;
	struct expiry_key hint;
	uint64_t time;
	MDB_val k, v;
	int rc;

	rc = store_errno(
	    mdb_cursor_open(txn, s->tables[BINDINGS_EXPIRY], &cursor));
	if (rc < 0)
		return rc;
	rc = store_errno(mdb_cursor_get(cursor, &k, &v, MDB_FIRST));
	if (rc == 0 && k.mv_size != sizeof(hint))
		rc = -EBADMSG;
	if (rc == 0) {
		memcpy(&hint, k.mv_data, sizeof(hint));
		memcpy(&time, hint.time, sizeof(time));
		memcpy(key->bytes, hint.key, BINDING_KEY_LEN);
		*at_ms = (int64_t)be64toh(time);
	}
	mdb_cursor_close(cursor);
	return rc == -ENOENT ? BINDINGS_MISS : rc;
}

static int
delete_hint(
    struct store *s, MDB_txn *txn, const struct binding_key *key, int64_t at_ms)
{
	uint64_t time = htobe64((uint64_t)at_ms);
	struct expiry_key hint;
	MDB_val k = { .mv_data = &hint, .mv_size = sizeof(hint) };

	memcpy(hint.time, &time, sizeof(hint.time));
	memcpy(hint.key, key->bytes, sizeof(hint.key));
	return store_errno(mdb_del(txn, s->tables[BINDINGS_EXPIRY], &k, NULL));
}

/*
 * Removes the binding of a key unless it expires after `until`. *next_ms is
 * when it is to be looked at again, 0: never.
 */
static int
sweep_binding(const struct sweep *sweep, const struct binding_key *key,
    int64_t until_ms, int64_t *next_ms)
{
	struct binding b;
	bool stored;
	int rc;

	rc = get_binding(sweep->s, sweep->txn, key, until_ms, &b, &stored);
	*next_ms = rc == 0 ? b.expires_ms : 0;
	if (rc == BINDINGS_MISS)
		rc = stored ? delete_key(
				  sweep->s, sweep->txn, BINDINGS_BINDING, key)
			    : 0;
	return rc;
}

/* Likewise of an alias, which lives as long as the binding it leads to. */
static int
sweep_alias(const struct sweep *sweep, const struct binding_key *key,
    int64_t until_ms, int64_t *next_ms)
{
	struct binding_key primary;
	struct binding b;
	bool stored;
	int rc;

	*next_ms = 0;
	rc = get_alias(sweep->s, sweep->txn, key, &primary);
	if (rc == 0)
		rc = get_binding(
		    sweep->s, sweep->txn, &primary, until_ms, &b, &stored);
	if (rc == 0)
		*next_ms = b.expires_ms;
	if (rc == BINDINGS_MISS)
		rc = delete_key(sweep->s, sweep->txn, BINDINGS_ALIAS, key);
	return rc;
}

/* Deals with the first hint; what it points at goes unless it lives longer. */
static int
sweep_hint(
    const struct sweep *sweep, int64_t at_ms, const struct binding_key *key)
{
	int64_t until_ms = at_ms > sweep->now_ms ? at_ms : sweep->now_ms;
	int64_t binding_ms, alias_ms = 0, next_ms;
	int rc;

	rc = sweep_binding(sweep, key, until_ms, &binding_ms);
	if (rc == 0)
		rc = sweep_alias(sweep, key, until_ms, &alias_ms);
	if (rc == 0)
		rc = delete_hint(sweep->s, sweep->txn, key, at_ms);
	if (rc < 0)
		return rc;
	next_ms = binding_ms;
	if (next_ms == 0 || (alias_ms != 0 && alias_ms < next_ms))
		next_ms = alias_ms;
	return next_ms != 0 ? put_hint(sweep->s, sweep->txn, key, next_ms) : 0;
}

/* Whether there is work, with the hint that it begins with. */
static int
next_work(const struct sweep *sweep, int64_t *at_ms, struct binding_key *key)
{
	int rc = first_hint(sweep->s, sweep->txn, at_ms, key);

	if (rc != 0 || *at_ms <= sweep->now_ms)
		return rc;
	if (sweep->max_sessions > 0 &&
	    bindings_count(sweep->s, sweep->txn) > sweep->max_sessions)
		return 0;
	return BINDINGS_MISS;
}

/* Looks without the lock; the master calls every second. */
static int
look_for_work(struct sweep *sweep)
{
	struct binding_key key;
	int64_t at_ms;
	int rc;

	rc = store_read(sweep->s, &sweep->txn);
	if (rc < 0)
		return rc;
	rc = next_work(sweep, &at_ms, &key);
	store_read_end(sweep->s);
	return rc;
}

static int
sweep_step(struct sweep *sweep, struct board *board)
{
	struct binding_key key;
	int64_t at_ms;
	int rc, done = 0;

	rc = begin_write(sweep->s, board, 0, &sweep->txn);
	if (rc != 0)
		return rc == BINDINGS_BUSY ? -EAGAIN : rc;
	while (done < BINDINGS_SWEEP_STEP) {
		rc = next_work(sweep, &at_ms, &key);
		if (rc == 0)
			rc = sweep_hint(sweep, at_ms, &key);
		if (rc != 0)
			break;
		done++;
	}
	return end_write(board, sweep->txn, rc >= 0, rc < 0 ? rc : done);
}

int
bindings_sweep(
    struct store *s, struct board *board, int64_t now_ms, int64_t max_sessions)
{
	struct sweep sweep = {
		.s = s,
		.now_ms = now_ms,
		.max_sessions = max_sessions,
	};
	int rc;

	rc = look_for_work(&sweep);
	if (rc != 0)
		return rc == BINDINGS_MISS ? 0 : rc;
	rc = sweep_step(&sweep, board);
	/* Deleting takes pages too, and a full map may not have enough. */
	if (rc == -ENOSPC && store_make_room(s))
		rc = sweep_step(&sweep, board);
	return rc;
}

int
bindings_each(
    struct store *s, MDB_txn *txn, int64_t now_ms, binding_fn *fn, void *ctx)
{
	struct binding_key key;
	struct binding b;
	MDB_cursor *cursor;
	MDB_val k, v;
	int rc, result = 0;

	rc = mdb_cursor_open(txn, s->tables[BINDINGS_BINDING], &cursor);
	if (rc != 0)
		return store_errno(rc);
	while (result == 0 &&
	       (rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
		if (k.mv_size != BINDING_KEY_LEN || !decode(&v, &b) ||
		    b.expires_ms <= now_ms)
			continue;
		memcpy(key.bytes, k.mv_data, BINDING_KEY_LEN);
		result = fn(ctx, &key, &b);
	}
	mdb_cursor_close(cursor);
	if (result == 0 && rc != MDB_NOTFOUND)
		result = store_errno(rc);
	return result;
}

int64_t
bindings_count(struct store *s, MDB_txn *txn)
{
	MDB_stat stat;

	if (mdb_stat(txn, s->tables[BINDINGS_BINDING], &stat) != 0)
		return 0;
	return (int64_t)stat.ms_entries;
}
