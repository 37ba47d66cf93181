/* SPDX-License-Identifier: MIT */
/*
 * Four tables. `binding`: key -> encoded binding. `alias`: key -> primary
 * key. `group`: primary key -> the keys of its group. `expiry`: {time, key}
 * without a value, a hint: for every binding there is one at or before its
 * expiry. Touching a binding leaves its hint behind; the sweep finds it early
 * and files it again. Aliases go with the binding that they lead to.
 */
#include "common/bindings.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "common/attr.h"
#include "common/binding_group.h"
#include "common/binding_index.h"
#include "common/binding_table.h"
#include "common/state.h"

/* What session_find() gives the ids of prompt cache keys. */
static const char prompt_cache_prefix[] = "pck:";

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
	key->prompt_cache = session_len >= sizeof(prompt_cache_prefix) - 1 &&
			    memcmp(session, prompt_cache_prefix,
				sizeof(prompt_cache_prefix) - 1) == 0;
}

uint64_t
binding_session_word(const struct binding_key *key)
{
	uint64_t word;

	memcpy(&word, key->bytes, sizeof(word));
	return word;
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
	rc = binding_table_get(s, txn, key, now_ms, b, &t->stored);
	if (rc == BINDINGS_MISS) {
		rc = binding_alias_get(s, txn, key, &primary);
		if (rc == 0)
			rc = binding_table_get(
			    s, txn, &primary, now_ms, b, &stored);
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

int
bindings_joined(struct store *s, MDB_txn *txn, const struct binding_key *key,
    const struct binding_key *alias)
{
	struct binding_key of_key = *key, of_alias = *alias;
	int rc;

	rc = binding_alias_get(s, txn, key, &of_key);
	if (rc >= 0)
		rc = binding_alias_get(s, txn, alias, &of_alias);
	if (rc < 0)
		return rc;
	return binding_key_same(&of_key, &of_alias) ? 0 : BINDINGS_MISS;
}

/* One bind() while it holds the lock. */
struct bind {
	struct store *s;
	struct board *board;
	MDB_txn *txn;
	const struct binding_key *key;
	const struct binding_key *alias;
	const char *expected;
	int64_t ttl_ms;
	int64_t now_ms;
	const struct bind_ops *ops;
	bool wrote;
};

/* Where one of the keys leads, and who else comes there. */
struct place {
	struct target target;
	struct binding binding;
	struct binding_group group;
};

static int
find_place(
    const struct bind *bind, const struct binding_key *key, struct place *p)
{
	int rc;

	p->group.n = 0;
	rc = find_target(
	    bind->s, bind->txn, key, bind->now_ms, &p->target, &p->binding);
	if (rc >= 0 && p->target.stored)
		rc = binding_group_load(
		    bind->s, bind->txn, &p->target.key, &p->group);
	return rc < 0 ? rc : 0;
}

static bool
may_adopt(const struct bind *bind, const struct place *p)
{
	const struct binding *found = &p->binding;

	if (!p->target.live)
		return false;
	if (bind->expected != NULL &&
	    strcmp(found->credential, bind->expected) == 0)
		return false;
	return bind->ops->usable(bind->ops->ctx, found);
}

/*
 * Who is to be bound together: the keys of the request, newest, then those
 * that were bound together with one of them and still are.
 */
static void
gather(const struct bind *bind, const struct place *own,
    const struct place *other, struct binding_group *group)
{
	group->n = 0;
	binding_group_add(group, bind->key);
	if (bind->alias != NULL)
		binding_group_add(group, bind->alias);
	if (own->target.live)
		binding_group_add_all(group, &own->group);
	if (other != NULL && other->target.live)
		binding_group_add_all(group, &other->group);
	binding_group_compact(group);
}

/* The key that holds the binding: one that did, if it may. */
static const struct place *
primary_of(const struct place *own, const struct place *other,
    const struct binding_group *group)
{
	if (own->target.live && binding_group_has(group, &own->target.key))
		return own;
	if (other != NULL && other->target.live &&
	    binding_group_has(group, &other->target.key))
		return other;
	return NULL;
}

/* Takes out of a place what is not to stay there. */
static int
leave(const struct bind *bind, const struct place *p,
    const struct binding_key *primary, const struct binding_group *kept)
{
	const struct binding_key *key = &p->target.key;
	int rc;

	if (!p->target.stored)
		return 0;
	rc = binding_group_leave(bind->s, bind->txn, key, &p->group, kept);
	if (rc != 0 || binding_key_same(key, primary))
		return rc;
	rc = binding_table_delete(bind->s, bind->txn, BINDINGS_BINDING, key);
	if (rc == 0)
		rc = binding_table_delete(
		    bind->s, bind->txn, BINDINGS_GROUP, key);
	return rc;
}

/* Stores a binding for all keys that belong together. */
static int
settle(struct bind *bind, const struct place *own, const struct place *other,
    struct binding *b)
{
	struct binding_group group;
	const struct place *at;
	struct binding_key primary;
	int rc;

	bind->wrote = true;
	b->expires_ms = expiry_at(bind->now_ms, bind->ttl_ms);
	gather(bind, own, other, &group);
	binding_group_drop(bind->board, bind->key, &group);
	binding_group_drop(bind->board, bind->key, &own->group);
	if (other != NULL)
		binding_group_drop(bind->board, bind->key, &other->group);
	at = primary_of(own, other, &group);
	primary = at != NULL ? at->target.key : *bind->key;
	rc = leave(bind, own, &primary, &group);
	if (rc == 0 && other != NULL)
		rc = leave(bind, other, &primary, &group);
	if (rc == 0)
		rc = binding_table_put(bind->s, bind->txn, &primary, b);
	if (rc == 0 && at == NULL && !own->target.stored)
		rc = binding_hint_put(
		    bind->s, bind->txn, &primary, b->expires_ms);
	if (rc == 0 && (group.n > 1 || own->group.n > 1))
		rc = binding_group_save(bind->s, bind->txn, &primary, &group);
	return rc;
}

/* former: what is replaced, NULL: there was none. */
static int
bind_chosen(struct bind *bind, const struct place *own,
    const struct place *other, const struct place *former,
    struct binding *winner, enum bind_outcome *outcome)
{
	int rc;

	memset(winner, 0, sizeof(*winner));
	rc = bind->ops->choose(bind->ops->ctx, winner);
	if (rc != 0)
		return rc;
	winner->created_ms =
	    former != NULL ? former->binding.created_ms : bind->now_ms;
	*outcome = former != NULL ? BIND_MOVED : BIND_NEW;
	return settle(bind, own, other, winner);
}

static int
bind_places(struct bind *bind, const struct place *own,
    const struct place *other, struct binding *winner,
    enum bind_outcome *outcome)
{
	const struct place *former = NULL;

	*outcome = BIND_ADOPTED;
	if (may_adopt(bind, own)) {
		*winner = own->binding;
		if (bind->alias == NULL || other == NULL)
			return 0;
		return settle(bind, own, other, winner);
	}
	if (own->target.live) {
		former = own;
	} else if (other != NULL && may_adopt(bind, other)) {
		*winner = other->binding;
		return settle(bind, own, other, winner);
	} else if (other != NULL && other->target.live) {
		former = other;
	}
	return bind_chosen(bind, own, other, former, winner, outcome);
}

static int
bind_locked(
    struct bind *bind, struct binding *winner, enum bind_outcome *outcome)
{
	struct place own, other;
	bool apart = false;
	int rc;

	rc = find_place(bind, bind->key, &own);
	if (rc == 0 && bind->alias != NULL) {
		rc = find_place(bind, bind->alias, &other);
		apart = !binding_key_same(&other.target.key, &own.target.key);
	}
	if (rc < 0)
		return rc;
	return bind_places(bind, &own, apart ? &other : NULL, winner, outcome);
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
		.board = board,
		.key = key,
		.alias = alias,
		.expected = expected,
		.ttl_ms = ttl_ms,
		.now_ms = now_ms,
		.ops = ops,
	};
	int rc;

	rc = binding_write_begin(s, board, wait_ms, &bind.txn);
	if (rc != 0)
		return rc;
	board_bind_session(board, binding_session_word(key));
	rc = bind_locked(&bind, winner, outcome);
	rc = binding_commit(bind.txn, rc == 0 && bind.wrote, rc);
	if (rc == 0)
		binding_index_put(board, key, winner);
	board_bind_unlock(board);
	return rc;
}

int
bindings_index(struct store *s, struct board *board,
    const struct binding_key *key, int64_t now_ms, uint16_t slot)
{
	struct binding b;
	MDB_txn *txn;
	int rc;

	rc = board_bind_lock(board, 0);
	if (rc != 0)
		return rc == BOARD_LOCK_BUSY ? BINDINGS_BUSY : rc;
	/* Only what is there while nobody writes is worth keeping. */
	rc = store_read(s, &txn);
	if (rc == 0) {
		rc = bindings_get(s, txn, key, now_ms, &b);
		store_read_end(s);
	}
	if (rc == 0) {
		b.slot = slot;
		binding_index_put(board, key, &b);
	}
	board_bind_unlock(board);
	return rc;
}

/* A key that is used is the newest of its group. */
static int
bring_forward(struct store *s, MDB_txn *txn, const struct binding_key *key,
    const struct binding_key *primary)
{
	struct binding_group old, group = { 0 };
	size_t at = 0;
	int rc;

	rc = binding_group_load(s, txn, primary, &old);
	if (rc < 0 || old.n <= 1)
		return rc;
	while (at < old.n && memcmp(old.members[at].session, key->bytes,
				 BINDING_SESSION_LEN) != 0)
		at++;
	if (at == 0 || at == old.n)
		return 0;
	group.members[group.n++] = old.members[at];
	binding_group_add_all(&group, &old);
	return binding_group_save(s, txn, primary, &group);
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

	rc = binding_write_begin(s, board, wait_ms, &txn);
	if (rc != 0)
		return rc;
	rc = find_target(s, txn, key, now_ms, &t, &b);
	if (rc == 0 && strcmp(b.credential, credential) != 0)
		rc = BINDINGS_MISS;
	if (rc == 0)
		due = bindings_touch_due(&b, ttl_ms, now_ms);
	if (due) {
		b.expires_ms = expiry_at(now_ms, ttl_ms);
		rc = binding_table_put(s, txn, &t.key, &b);
		if (rc == 0)
			rc = bring_forward(s, txn, key, &t.key);
	}
	return binding_write_end(board, txn, rc == 0 && due, rc);
}

/*
 * Takes a key out of its group. Where it held the binding, the newest of the
 * others does from now on.
 */
static int
strike(struct store *s, MDB_txn *txn, struct board *board,
    const struct binding_key *key, const struct binding_key *primary,
    const struct binding *b)
{
	struct binding_group old, kept;
	struct binding_key heir = *primary;
	int rc;

	rc = binding_group_load(s, txn, primary, &old);
	if (rc < 0)
		return rc;
	binding_group_drop(board, primary, &old);
	kept = old;
	binding_group_remove(&kept, key);
	if (kept.n == 0)
		return binding_table_delete(s, txn, BINDINGS_BINDING, primary);
	if (!binding_key_same(key, primary)) {
		rc = binding_group_leave(s, txn, primary, &old, &kept);
		return rc == 0 ? binding_group_save(s, txn, &heir, &kept) : rc;
	}
	heir = binding_group_key(&kept, 0, primary);
	rc = binding_group_leave(s, txn, primary, &old, NULL);
	if (rc == 0)
		rc = binding_table_delete(s, txn, BINDINGS_GROUP, primary);
	if (rc == 0)
		rc = binding_table_delete(s, txn, BINDINGS_BINDING, primary);
	if (rc == 0)
		rc = binding_table_put(s, txn, &heir, b);
	if (rc == 0)
		rc = binding_hint_put(s, txn, &heir, b->expires_ms);
	return rc == 0 ? binding_group_save(s, txn, &heir, &kept) : rc;
}

int
bindings_unbind(struct store *s, struct board *board,
    const struct binding_key *key, const char *credential, int wait_ms)
{
	struct target t;
	struct binding b;
	MDB_txn *txn;
	int rc;

	rc = binding_write_begin(s, board, wait_ms, &txn);
	if (rc != 0)
		return rc;
	/* What has expired but was not swept goes as well: time has no say. */
	rc = find_target(s, txn, key, 0, &t, &b);
	if (rc == 0 && credential != NULL &&
	    strcmp(b.credential, credential) != 0)
		rc = BINDINGS_MISS;
	if (rc == 0)
		rc = strike(s, txn, board, key, &t.key, &b);
	return binding_write_end(board, txn, rc == 0, rc);
}

/* The first key of a table that is of this session: 0, BINDINGS_MISS, ... */
static int
first_of_session(struct store *s, MDB_txn *txn, enum bindings_table table,
    const uint8_t *session, struct binding_key *key)
{
	MDB_cursor *cursor;
	MDB_val k = { .mv_size = BINDING_SESSION_LEN,
		.mv_data = (void *)(uintptr_t)session };
	MDB_val v;
	int rc;

	rc = store_errno(mdb_cursor_open(txn, s->tables[table], &cursor));
	if (rc < 0)
		return rc;
	rc = store_errno(mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE));
	if (rc == 0 &&
	    (k.mv_size != BINDING_KEY_LEN ||
		memcmp(k.mv_data, session, BINDING_SESSION_LEN) != 0))
		rc = -ENOENT;
	if (rc == 0) {
		*key = (struct binding_key){ .prompt_cache = false };
		memcpy(key->bytes, k.mv_data, BINDING_KEY_LEN);
	}
	mdb_cursor_close(cursor);
	return rc == -ENOENT ? BINDINGS_MISS : rc;
}

/* Dissolves one binding of a session, found by its own key or by an alias. */
static int
dissolve_one(struct store *s, MDB_txn *txn, struct board *board,
    const uint8_t *session, size_t *removed)
{
	struct binding_key key, primary;
	int rc;

	rc = first_of_session(s, txn, BINDINGS_BINDING, session, &key);
	if (rc == 0)
		return binding_group_dissolve(s, txn, board, &key, removed);
	if (rc == BINDINGS_MISS)
		rc = first_of_session(s, txn, BINDINGS_ALIAS, session, &key);
	if (rc == 0)
		rc = binding_alias_get(s, txn, &key, &primary);
	if (rc == 0)
		rc = binding_group_dissolve(s, txn, board, &primary, removed);
	/* Whatever it led to, the row must not be found again. */
	if (rc == 0)
		rc = binding_table_delete(s, txn, BINDINGS_ALIAS, &key);
	return rc;
}

int
bindings_unbind_session(struct store *s, struct board *board,
    const struct binding_key *key, size_t *removed)
{
	MDB_txn *txn;
	int rc;

	*removed = 0;
	rc = binding_write_begin(s, board, 0, &txn);
	if (rc != 0)
		return rc;
	do
		rc = dissolve_one(s, txn, board, key->bytes, removed);
	while (rc == 0);
	if (rc == BINDINGS_MISS && *removed > 0)
		rc = 0;
	return binding_write_end(board, txn, rc == 0, rc);
}

/* One step of the sweep. */
struct sweep {
	struct store *s;
	struct board *board;
	MDB_txn *txn;
	int64_t now_ms;
	int64_t max_sessions;
};

/*
 * Deals with the first hint: what it points at goes, and with it what leads
 * there, unless it lives longer; then it is filed again.
 */
static int
sweep_hint(const struct sweep *sweep, int64_t at_ms,
    const struct binding_key *key, size_t *removed)
{
	int64_t until_ms = at_ms > sweep->now_ms ? at_ms : sweep->now_ms;
	struct binding b;
	bool stored;
	int rc, got;

	got =
	    binding_table_get(sweep->s, sweep->txn, key, until_ms, &b, &stored);
	if (got < 0)
		return got;
	rc = binding_hint_delete(sweep->s, sweep->txn, key, at_ms);
	if (rc == 0 && got == 0) {
		(*removed)++;
		return binding_hint_put(
		    sweep->s, sweep->txn, key, b.expires_ms);
	}
	if (rc == 0 && stored)
		return binding_group_dissolve(
		    sweep->s, sweep->txn, sweep->board, key, removed);
	(*removed)++;
	return rc;
}

/* Whether there is work, with the hint that it begins with. */
static int
next_work(const struct sweep *sweep, int64_t *at_ms, struct binding_key *key)
{
	int rc = binding_hint_first(sweep->s, sweep->txn, at_ms, key);

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
	binding_index_fit(sweep->board, bindings_count(sweep->s, sweep->txn));
	rc = next_work(sweep, &at_ms, &key);
	store_read_end(sweep->s);
	return rc;
}

static int
sweep_step(struct sweep *sweep, struct board *board)
{
	struct binding_key key;
	int64_t at_ms;
	size_t done = 0;
	int rc;

	rc = binding_write_begin(sweep->s, board, 0, &sweep->txn);
	if (rc != 0)
		return rc == BINDINGS_BUSY ? -EAGAIN : rc;
	while (done < BINDINGS_SWEEP_STEP) {
		rc = next_work(sweep, &at_ms, &key);
		if (rc == 0)
			rc = sweep_hint(sweep, at_ms, &key, &done);
		if (rc != 0)
			break;
	}
	return binding_write_end(
	    board, sweep->txn, rc >= 0, rc < 0 ? rc : (int)done);
}

int
bindings_sweep(
    struct store *s, struct board *board, int64_t now_ms, int64_t max_sessions)
{
	struct sweep sweep = {
		.s = s,
		.board = board,
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

struct walk {
	struct store *s;
	MDB_cursor *cursor;
	int64_t now_ms;
	const uint8_t *session; /* NULL: of all */
	binding_fn *fn;
	void *ctx;
};

/* One after the other, from where the cursor is put first. */
static int
walk_bindings(struct walk *w)
{
	MDB_val k = { .mv_size = BINDING_SESSION_LEN,
		.mv_data = (void *)(uintptr_t)w->session };
	MDB_cursor_op op = w->session != NULL ? MDB_SET_RANGE : MDB_FIRST;
	struct binding_key key = { .prompt_cache = false };
	struct binding b;
	MDB_val v;
	int rc, result = 0;

	for (; result == 0; op = MDB_NEXT) {
		rc = mdb_cursor_get(w->cursor, &k, &v, op);
		if (rc != 0)
			return rc == MDB_NOTFOUND ? 0 : store_errno(rc);
		if (w->session != NULL && (k.mv_size < BINDING_SESSION_LEN ||
					      memcmp(k.mv_data, w->session,
						  BINDING_SESSION_LEN) != 0))
			return 0;
		if (k.mv_size != BINDING_KEY_LEN || !binding_decode(&v, &b) ||
		    b.expires_ms <= w->now_ms)
			continue;
		memcpy(key.bytes, k.mv_data, BINDING_KEY_LEN);
		result = w->fn(w->ctx, &key, &b);
	}
	return result;
}

static int
walk(struct walk *w, MDB_txn *txn)
{
	int rc;

	rc = store_errno(
	    mdb_cursor_open(txn, w->s->tables[BINDINGS_BINDING], &w->cursor));
	if (rc < 0)
		return rc;
	rc = walk_bindings(w);
	mdb_cursor_close(w->cursor);
	return rc;
}

int
bindings_each(
    struct store *s, MDB_txn *txn, int64_t now_ms, binding_fn *fn, void *ctx)
{
	struct walk w = { .s = s, .now_ms = now_ms, .fn = fn, .ctx = ctx };

	return walk(&w, txn);
}

/* Until the page is full; the cursor then stands at what comes next. */
static int
walk_page(struct walk *w, struct bindings_page *page)
{
	MDB_val k = { .mv_size = BINDING_KEY_LEN, .mv_data = page->begin };
	MDB_cursor_op op = MDB_SET_RANGE;
	struct binding_key key = { .prompt_cache = false };
	struct binding b;
	bool full = false;
	size_t looked = 0;
	MDB_val v;
	int rc;

	for (page->more = false;; op = MDB_NEXT) {
		rc = mdb_cursor_get(w->cursor, &k, &v, op);
		if (rc != 0)
			return rc == MDB_NOTFOUND ? 0 : store_errno(rc);
		if (k.mv_size != BINDING_KEY_LEN)
			continue;
		if (full || looked++ == page->most)
			break;
		if (!binding_decode(&v, &b) || b.expires_ms <= w->now_ms)
			continue;
		memcpy(key.bytes, k.mv_data, BINDING_KEY_LEN);
		full = w->fn(w->ctx, &key, &b) != 0;
	}
	memcpy(page->begin, k.mv_data, BINDING_KEY_LEN);
	page->more = true;
	return 0;
}

int
bindings_each_in(struct store *s, MDB_txn *txn, int64_t now_ms,
    struct bindings_page *page, binding_fn *fn, void *ctx)
{
	struct walk w = { .s = s, .now_ms = now_ms, .fn = fn, .ctx = ctx };
	int rc;

	rc = store_errno(
	    mdb_cursor_open(txn, s->tables[BINDINGS_BINDING], &w.cursor));
	if (rc < 0)
		return rc;
	rc = walk_page(&w, page);
	mdb_cursor_close(w.cursor);
	return rc;
}

int
bindings_of_session(struct store *s, MDB_txn *txn,
    const struct binding_key *key, int64_t now_ms, binding_fn *fn, void *ctx)
{
	struct walk w = {
		.s = s,
		.now_ms = now_ms,
		.session = key->bytes,
		.fn = fn,
		.ctx = ctx,
	};
	struct binding_key alias, primary;
	int rc;

	rc = walk(&w, txn);
	if (rc != 0)
		return rc;
	/* A session whose id is a second one of another is bound there. */
	rc = first_of_session(s, txn, BINDINGS_ALIAS, key->bytes, &alias);
	if (rc == 0)
		rc = binding_alias_get(s, txn, &alias, &primary);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	w.session = primary.bytes;
	return walk(&w, txn);
}

int64_t
bindings_count(struct store *s, MDB_txn *txn)
{
	MDB_stat stat;

	if (mdb_stat(txn, s->tables[BINDINGS_BINDING], &stat) != 0)
		return 0;
	return (int64_t)stat.ms_entries;
}
