/* SPDX-License-Identifier: MIT */
/* The records of the `bindings` environment; see binding_table.h. */
#include "common/binding_table.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

enum {
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

MDB_val
binding_key_val(const struct binding_key *key)
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
		.version = BINDING_RECORD_VERSION,
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
bool
binding_decode(const MDB_val *value, struct binding *b)
{
	const uint8_t *p = value->mv_data;
	struct record_head head;

	if (value->mv_size < sizeof(head))
		return false;
	memcpy(&head, p, sizeof(head));
	if (head.version != BINDING_RECORD_VERSION ||
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
int
binding_table_get(struct store *s, MDB_txn *txn, const struct binding_key *key,
    int64_t now_ms, struct binding *b, bool *stored)
{
	MDB_val k = binding_key_val(key), v;
	int rc;

	rc = store_errno(mdb_get(txn, s->tables[BINDINGS_BINDING], &k, &v));
	*stored = rc == 0;
	if (rc == -ENOENT)
		return BINDINGS_MISS;
	if (rc < 0)
		return rc;
	return binding_decode(&v, b) && b->expires_ms > now_ms ? 0
							       : BINDINGS_MISS;
}

/* 0 with the primary key, BINDINGS_MISS, or negative errno. */
int
binding_alias_get(struct store *s, MDB_txn *txn, const struct binding_key *key,
    struct binding_key *primary)
{
	MDB_val k = binding_key_val(key), v;
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
	if (record.version != BINDING_RECORD_VERSION)
		return BINDINGS_MISS;
	memcpy(primary->bytes, record.primary, BINDING_KEY_LEN);
	primary->prompt_cache = false;
	return 0;
}

int
binding_table_put(struct store *s, MDB_txn *txn, const struct binding_key *key,
    const struct binding *b)
{
	uint8_t record[RECORD_MAX];
	MDB_val k = binding_key_val(key);
	MDB_val v = { .mv_data = record, .mv_size = encode(b, record) };

	return store_errno(
	    mdb_put(txn, s->tables[BINDINGS_BINDING], &k, &v, 0));
}

int
binding_hint_put(
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
int
binding_table_delete(struct store *s, MDB_txn *txn, enum bindings_table table,
    const struct binding_key *key)
{
	MDB_val k = binding_key_val(key);
	int rc;

	rc = store_errno(mdb_del(txn, s->tables[table], &k, NULL));
	return rc == -ENOENT ? 0 : rc;
}

bool
binding_key_same(const struct binding_key *a, const struct binding_key *b)
{
	return memcmp(a->bytes, b->bytes, BINDING_KEY_LEN) == 0;
}

int
binding_alias_put(struct store *s, MDB_txn *txn,
    const struct binding_key *alias, const struct binding_key *primary)
{
	struct alias_record record = { .version = BINDING_RECORD_VERSION };
	MDB_val k = binding_key_val(alias);
	MDB_val v = { .mv_data = &record, .mv_size = sizeof(record) };

	memcpy(record.primary, primary->bytes, BINDING_KEY_LEN);
	return store_errno(mdb_put(txn, s->tables[BINDINGS_ALIAS], &k, &v, 0));
}

/* The first hint: 0, BINDINGS_MISS when there is none, negative errno. */
int
binding_hint_first(
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
		key->prompt_cache = false;
		*at_ms = (int64_t)be64toh(time);
	}
	mdb_cursor_close(cursor);
	return rc == -ENOENT ? BINDINGS_MISS : rc;
}

int
binding_hint_delete(
    struct store *s, MDB_txn *txn, const struct binding_key *key, int64_t at_ms)
{
	uint64_t time = htobe64((uint64_t)at_ms);
	struct expiry_key hint;
	MDB_val k = { .mv_data = &hint, .mv_size = sizeof(hint) };

	memcpy(hint.time, &time, sizeof(hint.time));
	memcpy(hint.key, key->bytes, sizeof(hint.key));
	return store_errno(mdb_del(txn, s->tables[BINDINGS_EXPIRY], &k, NULL));
}

int
binding_write_begin(
    struct store *s, struct board *board, int wait_ms, MDB_txn **txn)
{
	int rc = board_bind_lock(board, wait_ms);

	if (rc != 0)
		return rc == BOARD_LOCK_BUSY ? BINDINGS_BUSY : rc;
	rc = store_write(s, txn);
	if (rc < 0)
		board_bind_unlock(board);
	return rc;
}

int
binding_commit(MDB_txn *txn, bool keep, int result)
{
	int rc = 0;

	if (keep)
		rc = store_commit(txn);
	else
		mdb_txn_abort(txn);
	return rc < 0 ? rc : result;
}

int
binding_write_end(struct board *board, MDB_txn *txn, bool keep, int result)
{
	int rc = binding_commit(txn, keep, result);

	board_bind_unlock(board);
	return rc;
}
