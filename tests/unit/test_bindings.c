/* SPDX-License-Identifier: MIT */
#include "common/bindings.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "common/binding_index.h"
#include "common/clock.h"
#include "common/str.h"
#include "tests/unit/scratch.h"

#define BOOT "11111111-2222-3333-4444-555555555555"

enum { HOUR = 3600 * 1000, WAIT = 3 };

static struct scratch scratch;
static struct board *board;
static struct store store;
static int64_t now_ms;

static int
set_up(void **state UNUSED)
{
	scratch_make(&scratch);
	if (board_open_master(scratch.dir, BOOT, &board) != BOARD_MADE)
		return -1;
	clock_set_base(0);
	now_ms = 1000000;
	return store_open_master(&store, STORE_BINDINGS, scratch.dir, BOOT);
}

static int
tear_down(void **state UNUSED)
{
	store_read_end(&store);
	store_close(&store, false);
	board_close(board);
	store_set_map_size_for_test(STORE_BINDINGS, 0);
	scratch_remove(&scratch);
	return 0;
}

static struct binding_key
key_of(const char *session)
{
	struct binding_key key;

	binding_key_make(&key, NULL, session, strlen(session), "m", 1);
	return key;
}

static bool
all_usable(void *ctx UNUSED, const struct binding *found UNUSED)
{
	return true;
}

static bool
none_usable(void *ctx UNUSED, const struct binding *found UNUSED)
{
	return false;
}

/* Chooses the credential that ctx names. */
static int
choose(void *ctx, struct binding *chosen)
{
	chosen->epoch = 7;
	(void)str_copy(chosen->credential, sizeof(chosen->credential), ctx);
	(void)str_copy(chosen->session, sizeof(chosen->session), "sess...");
	(void)str_copy(chosen->source, sizeof(chosen->source), "test");
	(void)str_copy(chosen->model, sizeof(chosen->model), "m");
	return 0;
}

struct ask {
	const char *session;
	const char *alias;
	const char *expected;
	const char *choice;
	bool reject;
};

static int
bind_as(struct ask ask, struct binding *winner, enum bind_outcome *outcome)
{
	struct bind_ops ops = { ask.reject ? none_usable : all_usable, choose,
		(void *)(uintptr_t)ask.choice };
	struct binding_key key = key_of(ask.session), alias;

	if (ask.alias != NULL)
		alias = key_of(ask.alias);
	return bindings_bind(&store, board, &key,
	    ask.alias != NULL ? &alias : NULL, ask.expected, HOUR, now_ms, WAIT,
	    &ops, winner, outcome);
}

#define ASK(...) ((struct ask){ __VA_ARGS__ })

/* Binds and demands an outcome and a winner. */
static void
assert_bind(struct ask ask, enum bind_outcome expected, const char *credential)
{
	struct binding winner;
	enum bind_outcome outcome;

	assert_int_equal(bind_as(ask, &winner, &outcome), 0);
	assert_int_equal(outcome, expected);
	assert_string_equal(winner.credential, credential);
}

static int
get(const char *session, struct binding *b)
{
	struct binding_key key = key_of(session);
	MDB_txn *txn;
	int rc;

	assert_int_equal(store_read(&store, &txn), 0);
	rc = bindings_get(&store, txn, &key, now_ms, b);
	store_read_end(&store);
	return rc;
}

static void
assert_bound(const char *session, const char *credential)
{
	struct binding b;

	if (credential == NULL) {
		assert_int_equal(get(session, &b), BINDINGS_MISS);
		return;
	}
	assert_int_equal(get(session, &b), 0);
	assert_string_equal(b.credential, credential);
}

static int64_t
count(void)
{
	MDB_txn *txn;
	int64_t n;

	assert_int_equal(store_read(&store, &txn), 0);
	n = bindings_count(&store, txn);
	store_read_end(&store);
	return n;
}

static size_t
entries(enum bindings_table table)
{
	MDB_stat stat;
	MDB_txn *txn;

	assert_int_equal(store_read(&store, &txn), 0);
	assert_int_equal(mdb_stat(txn, store.tables[table], &stat), 0);
	store_read_end(&store);
	return stat.ms_entries;
}

static int
touch(const char *session, const char *credential, int64_t ttl_ms)
{
	struct binding_key key = key_of(session);

	return bindings_touch(
	    &store, board, &key, credential, ttl_ms, now_ms, WAIT);
}

static int
sweep(int64_t max_sessions)
{
	return bindings_sweep(&store, board, now_ms, max_sessions);
}

static int
unbind(const char *session, const char *credential)
{
	struct binding_key key = key_of(session);

	return bindings_unbind(&store, board, &key, credential, WAIT);
}

static void
keys_tell_scopes_sessions_and_models_apart(void **state UNUSED)
{
	struct binding_key a, b;
	struct digest one, two;

	digest_of("one", 3, &one);
	digest_of("two", 3, &two);
	binding_key_make(&a, &one, "s", 1, "m", 1);
	binding_key_make(&b, &one, "s", 1, "m", 1);
	assert_memory_equal(a.bytes, b.bytes, BINDING_KEY_LEN);

	binding_key_make(&b, &one, "s", 1, "n", 1);
	assert_memory_equal(a.bytes, b.bytes, BINDING_SESSION_LEN);
	assert_memory_not_equal(a.bytes, b.bytes, BINDING_KEY_LEN);
	binding_key_make(&b, &two, "s", 1, "m", 1);
	assert_memory_not_equal(a.bytes, b.bytes, BINDING_SESSION_LEN);
	binding_key_make(&b, NULL, "s", 1, "m", 1);
	assert_memory_not_equal(a.bytes, b.bytes, BINDING_SESSION_LEN);
	binding_key_make(&b, &one, "t", 1, "m", 1);
	assert_memory_not_equal(a.bytes, b.bytes, BINDING_SESSION_LEN);
}

static void
first_writer_wins_and_others_adopt(void **state UNUSED)
{
	struct binding b;

	assert_bound("s", NULL);
	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	assert_bind(ASK("s", .choice = "B"), BIND_ADOPTED, "A");
	assert_int_equal(get("s", &b), 0);
	assert_int_equal(b.epoch, 7);
	assert_int_equal(b.created_ms, now_ms);
	assert_string_equal(b.source, "test");
	assert_string_equal(b.session, "sess...");
	assert_string_equal(b.model, "m");
}

static void
failed_credential_is_replaced_once_for_all(void **state UNUSED)
{
	int64_t born_ms = now_ms;
	struct binding b;

	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	now_ms += 5000;
	assert_bind(ASK("s", .expected = "A", .choice = "B"), BIND_MOVED, "B");
	/* A parallel request that failed on A too, a little later. */
	assert_bind(
	    ASK("s", .expected = "A", .choice = "C"), BIND_ADOPTED, "B");
	assert_int_equal(get("s", &b), 0);
	assert_int_equal(b.created_ms, born_ms);
}

static void
unusable_binding_is_replaced(void **state UNUSED)
{
	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	assert_bind(ASK("s", .reject = true, .choice = "B"), BIND_MOVED, "B");
	assert_bound("s", "B");
}

static int
choose_nobody(void *ctx UNUSED, struct binding *chosen UNUSED)
{
	return 1234;
}

static void
bind_without_a_choice_writes_nothing(void **state UNUSED)
{
	struct bind_ops ops = { all_usable, choose_nobody, NULL };
	struct binding_key key = key_of("s");
	struct binding winner;
	enum bind_outcome outcome;

	assert_int_equal(bindings_bind(&store, board, &key, NULL, NULL, HOUR,
			     now_ms, WAIT, &ops, &winner, &outcome),
	    1234);
	assert_int_equal(count(), 0);
	/* The lock was given back. */
	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
}

static void
long_strings_are_cut_to_their_fields(void **state UNUSED)
{
	char id[BINDING_ID_MAX];
	struct binding b;

	memset(id, 'i', sizeof(id));
	id[sizeof(id) - 1] = '\0';
	assert_bind(ASK("s", .choice = id), BIND_NEW, id);
	assert_int_equal(get("s", &b), 0);
	assert_string_equal(b.credential, id);
}

/* Turn 2 of a conversation inherits what turn 1 was bound to. */
static void
alias_passes_its_binding_on_and_both_move_together(void **state UNUSED)
{
	assert_bind(ASK("short", .choice = "A"), BIND_NEW, "A");
	assert_bind(
	    ASK("full", .alias = "short", .choice = "B"), BIND_ADOPTED, "A");
	assert_int_equal(count(), 1);
	assert_bound("full", "A");
	assert_bound("short", "A");

	assert_bind(
	    ASK("full", .alias = "short", .expected = "A", .choice = "C"),
	    BIND_MOVED, "C");
	assert_bound("short", "C");
	/* Through the alias the group moves as well. */
	assert_bind(
	    ASK("short", .expected = "C", .choice = "D"), BIND_MOVED, "D");
	assert_bound("full", "D");
	assert_int_equal(count(), 1);
}

static void
alias_without_a_usable_binding_is_not_inherited(void **state UNUSED)
{
	assert_bind(ASK("conv", .choice = "A"), BIND_NEW, "A");
	assert_bind(ASK("pck", .alias = "conv", .expected = "A", .choice = "B"),
	    BIND_MOVED, "B");
	assert_bound("conv", "B");

	now_ms += 2 * HOUR;
	assert_bind(ASK("pck2", .alias = "conv", .choice = "C"), BIND_NEW, "C");
	assert_bound("conv", "C");
	assert_bound("pck", NULL);
}

/* Rotating cache keys keep only the latest of them, and the conversation. */
static void
rotating_cache_keys_leave_the_latest(void **state UNUSED)
{
	char pck[32];

	for (int i = 0; i < 20; i++) {
		(void)snprintf(pck, sizeof(pck), "pck:%d", i);
		assert_bind(ASK(pck, .alias = "conv:c", .choice = "A"),
		    i == 0 ? BIND_NEW : BIND_ADOPTED, "A");
	}
	assert_bound("pck:19", "A");
	assert_bound("conv:c", "A");
	assert_bound("pck:18", NULL);
	assert_bound("pck:0", NULL);
	assert_int_equal(count(), 1);
	assert_int_equal(entries(BINDINGS_ALIAS), 1);
	/* The conversation alone, then both move. */
	assert_bind(
	    ASK("conv:c", .expected = "A", .choice = "B"), BIND_MOVED, "B");
	assert_bound("pck:19", "B");
}

static void
shared_cache_key_keeps_its_newest_conversations(void **state UNUSED)
{
	char conv[32];

	for (int i = 0; i < 128; i++) {
		(void)snprintf(conv, sizeof(conv), "conv:%d", i);
		assert_bind(ASK("pck:p", .alias = conv, .choice = "A"),
		    i == 0 ? BIND_NEW : BIND_ADOPTED, "A");
	}
	assert_bound("pck:p", "A");
	assert_bound("conv:127", "A");
	assert_bound("conv:64", "A");
	assert_bound("conv:63", NULL);
	assert_bound("conv:0", NULL);
	assert_int_equal(entries(BINDINGS_ALIAS), 64);
	assert_bind(
	    ASK("pck:p", .expected = "A", .choice = "B"), BIND_MOVED, "B");
	assert_bound("conv:64", "B");
	assert_int_equal(count(), 1);
}

/* What is used lately is newer than what came later. */
static void
use_makes_a_conversation_new_again(void **state UNUSED)
{
	char conv[32];

	for (int i = 0; i < 64; i++) {
		(void)snprintf(conv, sizeof(conv), "conv:%d", i);
		assert_bind(ASK("pck:p", .alias = conv, .choice = "A"),
		    i == 0 ? BIND_NEW : BIND_ADOPTED, "A");
	}
	now_ms += HOUR / 2;
	assert_int_equal(touch("conv:0", "A", HOUR), 0);
	assert_bind(
	    ASK("pck:p", .alias = "conv:64", .choice = "A"), BIND_ADOPTED, "A");
	assert_bound("conv:0", "A");
	assert_bound("conv:1", NULL);
}

static void
id_that_only_contains_the_mark_is_no_cache_key(void **state UNUSED)
{
	assert_true(key_of("pck:a").prompt_cache);
	assert_false(key_of("conv:a::pck:b").prompt_cache);
	assert_false(key_of("pck").prompt_cache);
	assert_bind(ASK("pck:1", .alias = "conv:a::pck:b", .choice = "A"),
	    BIND_NEW, "A");
	assert_bind(ASK("pck:2", .alias = "conv:a::pck:b", .choice = "B"),
	    BIND_ADOPTED, "A");
	assert_bound("conv:a::pck:b", "A");
}

/* Two sessions turn out to be one: the request's own binding counts. */
static void
groups_that_meet_become_one(void **state UNUSED)
{
	assert_bind(ASK("s", .alias = "a", .choice = "A"), BIND_NEW, "A");
	assert_bind(ASK("t", .alias = "b", .choice = "B"), BIND_NEW, "B");
	assert_bind(ASK("s", .alias = "b", .choice = "C"), BIND_ADOPTED, "A");
	assert_bound("a", "A");
	assert_bound("t", "A");
	assert_bound("b", "A");
	assert_int_equal(count(), 1);
	assert_bind(ASK("t", .expected = "A", .choice = "C"), BIND_MOVED, "C");
	assert_bound("s", "C");
	assert_bound("a", "C");
}

static void
expired_group_does_not_come_back(void **state UNUSED)
{
	assert_bind(ASK("s", .alias = "a", .choice = "A"), BIND_NEW, "A");
	now_ms += 2 * HOUR;
	assert_bind(ASK("s", .choice = "B"), BIND_NEW, "B");
	assert_bound("a", NULL);
	assert_int_equal(entries(BINDINGS_ALIAS), 0);
	assert_bind(ASK("t", .alias = "a", .choice = "C"), BIND_NEW, "C");
	assert_bound("s", "B");
	now_ms += 2 * HOUR;
	assert_bind(ASK("a", .choice = "D"), BIND_NEW, "D");
	assert_bound("a", "D");
	assert_bound("t", NULL);
	while (sweep(0) > 0)
		continue;
	assert_bound("a", "D");
	assert_int_equal(count(), 1);
}

static bool
indexed(const char *session)
{
	struct binding_key key = key_of(session);
	struct binding_brief brief;

	return binding_index_get(board, &key, &brief);
}

static int
put_in_index(const char *session)
{
	struct binding_key key = key_of(session);

	return bindings_index(&store, board, &key, now_ms, 0);
}

/* Whatever changes a binding takes all its keys out of the index. */
static void
index_has_only_what_is_bound_now(void **state UNUSED)
{
	size_t removed;
	struct binding_key key = key_of("s");

	assert_bind(ASK("s", .alias = "a", .choice = "A"), BIND_NEW, "A");
	assert_true(indexed("s"));
	assert_int_equal(put_in_index("a"), 0);
	assert_true(indexed("a"));
	assert_int_equal(put_in_index("nobody"), BINDINGS_MISS);
	/* One moves: the others are looked up again. */
	assert_bind(ASK("s", .expected = "A", .choice = "B"), BIND_MOVED, "B");
	assert_true(indexed("s"));
	assert_false(indexed("a"));

	assert_int_equal(put_in_index("a"), 0);
	assert_int_equal(unbind("s", "B"), 0);
	assert_false(indexed("s"));
	assert_false(indexed("a"));

	/* Its group is bound still. */
	assert_bind(ASK("s", .alias = "a", .choice = "C"), BIND_ADOPTED, "B");
	assert_int_equal(
	    bindings_unbind_session(&store, board, &key, &removed), 0);
	assert_false(indexed("s"));
	assert_false(indexed("a"));

	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	now_ms += 1;
	assert_bind(ASK("t", .choice = "A"), BIND_NEW, "A");
	while (sweep(1) > 0)
		continue;
	assert_false(indexed("s"));
	assert_true(indexed("t"));
}

static int
joined(const char *session, const char *alias)
{
	struct binding_key key = key_of(session), second = key_of(alias);
	MDB_txn *txn;
	int rc;

	assert_int_equal(store_read(&store, &txn), 0);
	rc = bindings_joined(&store, txn, &key, &second);
	store_read_end(&store);
	return rc;
}

static void
keys_of_a_group_are_joined(void **state UNUSED)
{
	assert_bind(ASK("s", .alias = "a", .choice = "A"), BIND_NEW, "A");
	assert_bind(ASK("t", .choice = "A"), BIND_NEW, "A");
	assert_int_equal(joined("s", "a"), 0);
	assert_int_equal(joined("a", "s"), 0);
	assert_int_equal(joined("s", "t"), BINDINGS_MISS);
	assert_int_equal(joined("s", "s"), 0);
}

static void
adopting_again_writes_nothing(void **state UNUSED)
{
	MDB_envinfo before, after;

	assert_bind(
	    ASK("full", .alias = "short", .choice = "A"), BIND_NEW, "A");
	assert_int_equal(mdb_env_info(store.env, &before), 0);
	assert_bind(
	    ASK("full", .alias = "short", .choice = "B"), BIND_ADOPTED, "A");
	assert_int_equal(mdb_env_info(store.env, &after), 0);
	assert_int_equal(after.me_last_txnid, before.me_last_txnid);
}

/*
 * Uses a session at random times and looks when its binding ends: never
 * earlier than the TTL after the last use, at most a sixteenth later.
 */
static void
expiry_is_never_early_and_at_most_a_sixteenth_late(void **state UNUSED)
{
	uint32_t seed = 7;
	struct binding b;
	int writes = 0;

	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	for (int i = 0; i < 500; i++) {
		seed = seed * 1103515245 + 12345;
		now_ms += (seed >> 8) % (HOUR / 40);
		assert_int_equal(get("s", &b), 0);
		if (bindings_touch_due(&b, HOUR, now_ms)) {
			assert_int_equal(touch("s", "A", HOUR), 0);
			writes++;
		}
		assert_int_equal(get("s", &b), 0);
		assert_true(b.expires_ms >= now_ms + HOUR);
		assert_true(b.expires_ms <= now_ms + HOUR + HOUR / 16);
	}
	/* The turns between are read-only. */
	assert_true(writes > 50 && writes < 250);

	now_ms = b.expires_ms - 1;
	assert_bound("s", "A");
	now_ms = b.expires_ms;
	assert_bound("s", NULL);
}

static void
touch_compares_and_revives_nothing(void **state UNUSED)
{
	struct binding before, after;

	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	assert_int_equal(get("s", &before), 0);
	now_ms += HOUR / 2;
	assert_int_equal(touch("s", "B", HOUR), BINDINGS_MISS);
	assert_int_equal(get("s", &after), 0);
	assert_int_equal(after.expires_ms, before.expires_ms);
	assert_int_equal(touch("nobody", "A", HOUR), BINDINGS_MISS);
	now_ms += HOUR;
	assert_int_equal(touch("s", "A", HOUR), BINDINGS_MISS);
}

static void
shorter_ttl_applies_at_the_next_touch(void **state UNUSED)
{
	struct binding b;

	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	assert_int_equal(get("s", &b), 0);
	assert_true(bindings_touch_due(&b, HOUR / 60, now_ms));
	assert_int_equal(touch("s", "A", HOUR / 60), 0);
	assert_int_equal(get("s", &b), 0);
	assert_int_equal(b.expires_ms, now_ms + HOUR / 60 + HOUR / 60 / 16);
	assert_false(bindings_touch_due(&b, HOUR / 60, now_ms));
}

static void
bindings_last_by_the_daemons_clock(void **state UNUSED)
{
	clock_set_base(INT64_C(1700000000000));
	now_ms = clock_now_ms();
	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	/* A later boot whose base was chosen so that time went on by 59 min. */
	clock_set_base(INT64_C(1700000000000) + 59 * 60000);
	now_ms = clock_now_ms();
	assert_bound("s", "A");
	clock_set_base(INT64_C(1700000000000) + 64 * 60000);
	now_ms = clock_now_ms();
	assert_bound("s", NULL);
}

/* A late failure of a credential that does not serve it any more. */
static void
unbind_compares(void **state UNUSED)
{
	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	assert_int_equal(unbind("s", "B"), BINDINGS_MISS);
	assert_bound("s", "A");
	assert_int_equal(unbind("s", "A"), 0);
	assert_bound("s", NULL);
	assert_int_equal(unbind("s", NULL), BINDINGS_MISS);
	assert_int_equal(count(), 0);
}

/* Whichever it is, the primary one or an alias. */
static void
unbound_key_leaves_its_group_and_does_not_come_back(void **state UNUSED)
{
	assert_bind(ASK("s", .alias = "a", .choice = "A"), BIND_NEW, "A");
	assert_bind(ASK("s", .alias = "b", .choice = "A"), BIND_ADOPTED, "A");
	assert_int_equal(unbind("b", "A"), 0);
	assert_bound("b", NULL);
	assert_bound("s", "A");
	assert_int_equal(unbind("s", "A"), 0);
	assert_bound("s", NULL);
	assert_bound("a", "A");
	now_ms += HOUR / 2;
	assert_int_equal(touch("a", "A", HOUR), 0);
	assert_bound("s", NULL);
	assert_bound("b", NULL);
	assert_int_equal(count(), 1);
	assert_int_equal(entries(BINDINGS_ALIAS), 0);
	assert_int_equal(entries(BINDINGS_GROUP), 0);
	now_ms += 2 * HOUR;
	while (sweep(0) > 0)
		continue;
	assert_int_equal(count(), 0);
	assert_int_equal(entries(BINDINGS_EXPIRY), 0);
}

static struct binding_key
key_of_model(const char *session, const char *model)
{
	struct binding_key key;

	binding_key_make(
	    &key, NULL, session, strlen(session), model, strlen(model));
	return key;
}

static void
bind_model(const char *session, const char *alias, const char *model)
{
	struct bind_ops ops = { all_usable, choose, (void *)(uintptr_t) "A" };
	struct binding_key key = key_of_model(session, model), second;
	struct binding winner;
	enum bind_outcome outcome;

	if (alias != NULL)
		second = key_of_model(alias, model);
	assert_int_equal(
	    bindings_bind(&store, board, &key, alias != NULL ? &second : NULL,
		NULL, HOUR, now_ms, WAIT, &ops, &winner, &outcome),
	    0);
}

static int
count_up(void *ctx, const struct binding_key *key UNUSED,
    const struct binding *b UNUSED)
{
	++*(int *)ctx;
	return 0;
}

static int
models_of(const char *session)
{
	struct binding_key key = key_of(session);
	MDB_txn *txn;
	int n = 0;

	assert_int_equal(store_read(&store, &txn), 0);
	assert_int_equal(
	    bindings_of_session(&store, txn, &key, now_ms, count_up, &n), 0);
	store_read_end(&store);
	return n;
}

static void
session_is_unbound_with_all_its_models_and_ids(void **state UNUSED)
{
	struct binding_key key;
	size_t removed;

	bind_model("s", NULL, "one");
	bind_model("s", "a", "two");
	bind_model("s", "a", "three");
	bind_model("other", NULL, "one");
	assert_int_equal(models_of("s"), 3);
	/* An alias leads to the session it stands for. */
	assert_int_equal(models_of("a"), 3);
	assert_int_equal(models_of("nobody"), 0);

	key = key_of_model("s", "unheard of");
	assert_int_equal(
	    bindings_unbind_session(&store, board, &key, &removed), 0);
	assert_int_equal(removed, 5);
	assert_int_equal(models_of("s"), 0);
	assert_int_equal(models_of("other"), 1);
	assert_int_equal(entries(BINDINGS_ALIAS), 0);
	assert_int_equal(entries(BINDINGS_GROUP), 0);
	assert_int_equal(bindings_unbind_session(&store, board, &key, &removed),
	    BINDINGS_MISS);

	bind_model("s", "a", "two");
	key = key_of_model("a", "two");
	assert_int_equal(
	    bindings_unbind_session(&store, board, &key, &removed), 0);
	assert_int_equal(models_of("s"), 0);
}

static void
bind_many(int first, int last)
{
	char session[32];

	for (int i = first; i < last; i++) {
		(void)snprintf(session, sizeof(session), "session-%d", i);
		assert_bind(ASK(session, .choice = "A"), BIND_NEW, "A");
	}
}

static void
sweep_removes_the_expired_in_bounded_steps(void **state UNUSED)
{
	bind_many(0, 150);
	assert_int_equal(sweep(0), 0);
	now_ms += HOUR + HOUR / 16;
	bind_many(1000, 1010);
	assert_int_equal(sweep(0), BINDINGS_SWEEP_STEP);
	assert_int_equal(sweep(0), BINDINGS_SWEEP_STEP);
	assert_int_equal(sweep(0), 150 - 2 * BINDINGS_SWEEP_STEP);
	assert_int_equal(sweep(0), 0);
	assert_int_equal(count(), 10);
	assert_int_equal(entries(BINDINGS_EXPIRY), 10);
}

static void
sweep_spares_what_was_touched_since(void **state UNUSED)
{
	struct binding b;

	bind_many(0, 3);
	now_ms += HOUR / 2;
	assert_int_equal(touch("session-1", "A", HOUR), 0);
	now_ms += HOUR * 3 / 4;
	/* Two go, one is filed again. */
	assert_int_equal(sweep(0), 3);
	assert_int_equal(count(), 1);
	assert_int_equal(entries(BINDINGS_EXPIRY), 1);
	assert_int_equal(sweep(0), 0);
	assert_int_equal(get("session-1", &b), 0);
	now_ms = b.expires_ms;
	assert_int_equal(sweep(0), 1);
	assert_int_equal(count(), 0);
	assert_int_equal(entries(BINDINGS_EXPIRY), 0);
}

static void
sweep_takes_aliases_with_their_binding(void **state UNUSED)
{
	assert_bind(ASK("short", .choice = "A"), BIND_NEW, "A");
	assert_bind(
	    ASK("full", .alias = "short", .choice = "B"), BIND_ADOPTED, "A");
	now_ms += HOUR / 2;
	assert_int_equal(touch("full", "A", HOUR), 0);
	now_ms += HOUR * 3 / 4;
	while (sweep(0) > 0)
		continue;
	assert_bound("short", "A");
	now_ms += HOUR;
	while (sweep(0) > 0)
		continue;
	assert_int_equal(count(), 0);
	assert_int_equal(entries(BINDINGS_ALIAS), 0);
	assert_int_equal(entries(BINDINGS_EXPIRY), 0);
}

static void
beyond_the_limit_those_idle_longest_go(void **state UNUSED)
{
	for (int i = 0; i < 20; i++) {
		bind_many(i, i + 1);
		now_ms += 1000;
	}
	now_ms += HOUR / 4;
	assert_int_equal(touch("session-0", "A", HOUR), 0);
	while (sweep(15) > 0)
		continue;
	assert_int_equal(count(), 15);
	assert_bound("session-0", "A");
	assert_bound("session-5", NULL);
	assert_bound("session-6", "A");
	assert_int_equal(entries(BINDINGS_EXPIRY), 15);
}

static void
eviction_takes_whole_groups(void **state UNUSED)
{
	assert_bind(ASK("one", .alias = "a", .choice = "A"), BIND_NEW, "A");
	assert_bind(ASK("two", .alias = "b", .choice = "A"), BIND_NEW, "A");
	now_ms += 1000;
	bind_many(0, 1);
	for (int i = 0; i < 10 && sweep(1) > 0; i++)
		continue;
	assert_int_equal(sweep(1), 0);
	assert_int_equal(count(), 1);
	assert_bound("session-0", "A");
}

struct seen {
	int count;
	struct binding_key last;
};

static int
see(void *ctx, const struct binding_key *key, const struct binding *b)
{
	struct seen *seen = ctx;

	assert_string_equal(b->credential, "A");
	if (seen->count > 0)
		assert_true(
		    memcmp(seen->last.bytes, key->bytes, BINDING_KEY_LEN) < 0);
	seen->last = *key;
	return ++seen->count == 7 ? 99 : 0;
}

static void
walk_sees_the_live_in_key_order(void **state UNUSED)
{
	struct seen seen = { 0 };
	MDB_txn *txn;

	bind_many(0, 5);
	now_ms += HOUR + HOUR / 16;
	bind_many(10, 14);
	assert_int_equal(store_read(&store, &txn), 0);
	assert_int_equal(bindings_each(&store, txn, now_ms, see, &seen), 0);
	assert_int_equal(seen.count, 4);
	seen.count = 3;
	memset(&seen.last, 0, sizeof(seen.last));
	assert_int_equal(bindings_each(&store, txn, now_ms, see, &seen), 99);
	store_read_end(&store);
}

static int
see_two(void *ctx, const struct binding_key *key UNUSED,
    const struct binding *b UNUSED)
{
	size_t *seen = ctx;

	return ++*seen % 2 == 0;
}

static void
walk_in_pages_sees_each_once(void **state UNUSED)
{
	struct bindings_page page = { .most = 3 };
	size_t seen = 0, looks = 0;
	MDB_txn *txn;

	bind_many(0, 4);
	now_ms += HOUR + HOUR / 16;
	bind_many(10, 17);
	assert_int_equal(store_read(&store, &txn), 0);
	do {
		assert_int_equal(bindings_each_in(&store, txn, now_ms, &page,
				     see_two, &seen),
		    0);
		looks++;
		assert_true(seen <= 2 * looks);
	} while (page.more);
	assert_int_equal(seen, 7);
	assert_true(looks >= 4 && looks <= 11);
	/* Nothing to look at, and nothing behind the last. */
	memset(page.begin, 0xff, sizeof(page.begin));
	assert_int_equal(
	    bindings_each_in(&store, txn, now_ms, &page, see_two, &seen), 0);
	assert_false(page.more);
	assert_int_equal(seen, 7);
	store_read_end(&store);
}

static void
record_of_an_unknown_version_counts_as_none(void **state UNUSED)
{
	struct binding_key key = key_of("s");
	char junk[40] = { 2 };
	MDB_val k = { BINDING_KEY_LEN, key.bytes }, v = { sizeof(junk), junk };
	MDB_txn *txn;

	assert_int_equal(store_write(&store, &txn), 0);
	assert_int_equal(
	    mdb_put(txn, store.tables[BINDINGS_BINDING], &k, &v, 0), 0);
	assert_int_equal(store_commit(txn), 0);
	assert_bound("s", NULL);
	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	assert_bound("s", "A");
}

static void
full_map_is_told_and_the_sweep_makes_room(void **state UNUSED)
{
	struct binding winner;
	enum bind_outcome outcome;
	char session[32];
	int i, rc = 0;

	store_close(&store, true);
	store_set_map_size_for_test(STORE_BINDINGS, 512 * 1024);
	assert_int_equal(
	    store_open_master(&store, STORE_BINDINGS, scratch.dir, BOOT), 0);
	for (i = 0; rc == 0 && i < 100000; i++) {
		(void)snprintf(session, sizeof(session), "session-%d", i);
		rc = bind_as(ASK(session, .choice = "A"), &winner, &outcome);
	}
	assert_int_equal(rc, -ENOSPC);
	assert_true(i > 500);
	assert_bound("session-0", "A");
	assert_bound(session, NULL);

	now_ms += 2 * HOUR;
	do {
		rc = sweep(0);
	} while (rc > 0);
	assert_int_equal(rc, 0);
	assert_int_equal(count(), 0);
	assert_bind(ASK(session, .choice = "A"), BIND_NEW, "A");
}

static int
hold_the_lock(void *ctx)
{
	if (board_bind_lock(board, 1000) != 0)
		return 1;
	gate_tell(ctx);
	(void)pause();
	return 0;
}

static void
nobody_waits_for_a_stopped_writer(void **state UNUSED)
{
	struct binding_key key = key_of("s");
	struct binding winner;
	enum bind_outcome outcome;
	struct gate gate;
	pid_t pid;

	assert_bind(ASK("s", .choice = "A"), BIND_NEW, "A");
	gate_make(&gate);
	pid = child_start(hold_the_lock, &gate);
	gate_listen(&gate);
	child_stop(pid);
	assert_int_equal(
	    bind_as(ASK("t", .choice = "A"), &winner, &outcome), BINDINGS_BUSY);
	assert_int_equal(touch("s", "A", HOUR / 2), BINDINGS_BUSY);
	assert_int_equal(
	    bindings_unbind(&store, board, &key, NULL, WAIT), BINDINGS_BUSY);
	now_ms += 2 * HOUR;
	assert_int_equal(sweep(0), -EAGAIN);
	child_kill(pid);
	assert_int_equal(sweep(0), 1);
	gate_remove(&gate);
}

/* Binds new sessions for ever; killed at any point. */
static int
bind_for_ever(void *ctx)
{
	struct bind_ops ops = { all_usable, choose, (void *)(uintptr_t) "A" };
	struct store mine;
	struct binding winner;
	enum bind_outcome outcome;
	struct binding_key key;
	char session[64];
	int rc = 0;

	if (store_open_worker(&mine, STORE_BINDINGS, scratch.dir) != 0)
		return 1;
	gate_tell(ctx);
	for (unsigned int i = 0; rc == 0; i++) {
		(void)snprintf(
		    session, sizeof(session), "%d-%u", (int)getpid(), i);
		key = key_of(session);
		do {
			rc = bindings_bind(&mine, board, &key, NULL, NULL, HOUR,
			    now_ms, WAIT, &ops, &winner, &outcome);
		} while (rc == BINDINGS_BUSY);
	}
	return 2;
}

static void
writers_killed_at_any_instant_lose_nothing_and_block_nobody(void **state UNUSED)
{
	struct gate gate;
	char session[32];
	pid_t pids[2];

	gate_make(&gate);
	for (int round = 0; round < 40; round++) {
		for (size_t i = 0; i < ARRAY_LEN(pids); i++)
			pids[i] = child_start(bind_for_ever, &gate);
		for (size_t i = 0; i < ARRAY_LEN(pids); i++)
			gate_listen(&gate);
		for (size_t i = 0; i < ARRAY_LEN(pids); i++)
			child_kill(pids[i]);
		(void)snprintf(session, sizeof(session), "mine-%d", round);
		assert_bind(ASK(session, .choice = "A"), BIND_NEW, "A");
	}
	for (int round = 0; round < 40; round++) {
		(void)snprintf(session, sizeof(session), "mine-%d", round);
		assert_bound(session, "A");
	}
	assert_int_equal(count(), entries(BINDINGS_EXPIRY));
	gate_remove(&gate);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_tell_scopes_sessions_and_models_apart),
		TEST(first_writer_wins_and_others_adopt),
		TEST(failed_credential_is_replaced_once_for_all),
		TEST(unusable_binding_is_replaced),
		TEST(bind_without_a_choice_writes_nothing),
		TEST(long_strings_are_cut_to_their_fields),
		TEST(alias_passes_its_binding_on_and_both_move_together),
		TEST(alias_without_a_usable_binding_is_not_inherited),
		TEST(rotating_cache_keys_leave_the_latest),
		TEST(shared_cache_key_keeps_its_newest_conversations),
		TEST(use_makes_a_conversation_new_again),
		TEST(id_that_only_contains_the_mark_is_no_cache_key),
		TEST(groups_that_meet_become_one),
		TEST(expired_group_does_not_come_back),
		TEST(keys_of_a_group_are_joined),
		TEST(index_has_only_what_is_bound_now),
		TEST(adopting_again_writes_nothing),
		TEST(expiry_is_never_early_and_at_most_a_sixteenth_late),
		TEST(touch_compares_and_revives_nothing),
		TEST(shorter_ttl_applies_at_the_next_touch),
		TEST(bindings_last_by_the_daemons_clock),
		TEST(unbind_compares),
		TEST(unbound_key_leaves_its_group_and_does_not_come_back),
		TEST(session_is_unbound_with_all_its_models_and_ids),
		TEST(sweep_removes_the_expired_in_bounded_steps),
		TEST(sweep_spares_what_was_touched_since),
		TEST(sweep_takes_aliases_with_their_binding),
		TEST(beyond_the_limit_those_idle_longest_go),
		TEST(eviction_takes_whole_groups),
		TEST(walk_sees_the_live_in_key_order),
		TEST(walk_in_pages_sees_each_once),
		TEST(record_of_an_unknown_version_counts_as_none),
		TEST(full_map_is_told_and_the_sweep_makes_room),
		TEST(nobody_waits_for_a_stopped_writer),
		TEST(
		    writers_killed_at_any_instant_lose_nothing_and_block_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
