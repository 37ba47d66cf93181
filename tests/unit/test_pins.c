/* SPDX-License-Identifier: MIT */
#include "common/pins.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "common/clock.h"
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
	scratch_remove(&scratch);
	return 0;
}

static struct pin_key
key_of(const char *token)
{
	struct digest d;
	struct pin_key key;

	pin_token_digest(token, strlen(token), &d);
	pin_key_make(&key, NULL, PIN_RESPONSE, &d);
	return key;
}

static int
put(const char *token, const char *credential)
{
	struct pin_key key = key_of(token);

	return pins_put(&store, board, &key, 1, credential, HOUR, now_ms, WAIT);
}

static void
assert_pinned(const char *token, const char *credential)
{
	struct pin_key key = key_of(token);
	struct pin pin;
	MDB_txn *txn;
	int rc;

	assert_int_equal(store_read(&store, &txn), 0);
	rc = pins_get(&store, txn, &key, now_ms, &pin);
	store_read_end(&store);
	assert_int_equal(rc, credential != NULL ? 0 : PINS_MISS);
	if (credential != NULL)
		assert_string_equal(pin.credential, credential);
}

static int64_t
entries(enum bindings_table table)
{
	MDB_stat stat;
	MDB_txn *txn;

	assert_int_equal(store_read(&store, &txn), 0);
	assert_int_equal(mdb_stat(txn, store.tables[table], &stat), 0);
	store_read_end(&store);
	return (int64_t)stat.ms_entries;
}

static void
keys_tell_scopes_kinds_and_tokens_apart(void **state UNUSED)
{
	struct digest scope, a, b;
	struct pin_key keys[4];

	digest_of("client", 6, &scope);
	pin_token_digest("a", 1, &a);
	pin_token_digest("b", 1, &b);
	pin_key_make(&keys[0], NULL, PIN_RESPONSE, &a);
	pin_key_make(&keys[1], &scope, PIN_RESPONSE, &a);
	pin_key_make(&keys[2], NULL, PIN_TURN_STATE, &a);
	pin_key_make(&keys[3], NULL, PIN_RESPONSE, &b);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(
			    keys[i].bytes, keys[k].bytes, PIN_KEY_LEN);
}

static void
token_is_the_same_however_json_writes_it(void **state UNUSED)
{
	struct digest_stream *s = digest_stream_new();
	struct digest plain, escaped, pieces;

	pin_token_digest("ab/c==", 6, &plain);
	pin_token_digest("ab\\/c==", 7, &escaped);
	pin_token_add(s, "ab\\", 3);
	pin_token_add(s, "/c", 2);
	pin_token_add(s, "==", 2);
	digest_stream_end(s, &pieces);
	assert_true(digest_equal(&plain, &escaped));
	assert_true(digest_equal(&plain, &pieces));
}

static void
pin_is_found_until_it_expires(void **state UNUSED)
{
	assert_pinned("r1", NULL);
	assert_int_equal(put("r1", "A"), 0);
	assert_pinned("r1", "A");
	assert_pinned("r2", NULL);
	now_ms += HOUR;
	assert_pinned("r1", "A");
	now_ms += HOUR / 16;
	assert_pinned("r1", NULL);
}

static void
use_extends_it_lazily(void **state UNUSED)
{
	assert_int_equal(put("r1", "A"), 0);
	/* Nothing to write while more than the TTL remains. */
	now_ms += HOUR / 32;
	assert_int_equal(put("r1", "A"), 0);
	now_ms += HOUR + HOUR / 32;
	assert_pinned("r1", NULL);

	assert_int_equal(put("r2", "A"), 0);
	now_ms += HOUR / 2;
	assert_int_equal(put("r2", "A"), 0);
	now_ms += HOUR;
	assert_pinned("r2", "A");
}

static void
several_go_together_and_the_latest_word_counts(void **state UNUSED)
{
	struct pin_key keys[] = { key_of("r1"), key_of("r2") };

	assert_int_equal(put("r1", "A"), 0);
	assert_int_equal(pins_put(&store, board, keys, ARRAY_LEN(keys), "B",
			     HOUR, now_ms, WAIT),
	    0);
	assert_pinned("r1", "B");
	assert_pinned("r2", "B");
	assert_int_equal(entries(BINDINGS_PIN), 2);
	assert_int_equal(entries(BINDINGS_PIN_EXPIRY), 2);
}

static void
sweep_removes_the_expired_in_bounded_steps(void **state UNUSED)
{
	char token[16];

	for (int i = 0; i < PINS_SWEEP_STEP + 10; i++) {
		(void)snprintf(token, sizeof(token), "r%d", i);
		assert_int_equal(put(token, "A"), 0);
	}
	assert_int_equal(pins_sweep(&store, board, now_ms, 0), 0);
	now_ms += HOUR / 2;
	assert_int_equal(put("r0", "A"), 0);
	now_ms += HOUR;
	assert_int_equal(pins_sweep(&store, board, now_ms, 0), PINS_SWEEP_STEP);
	assert_int_equal(pins_sweep(&store, board, now_ms, 0), 10);
	assert_int_equal(pins_sweep(&store, board, now_ms, 0), 0);
	assert_int_equal(entries(BINDINGS_PIN), 1);
	assert_int_equal(entries(BINDINGS_PIN_EXPIRY), 1);
	assert_pinned("r0", "A");
}

static void
beyond_the_limit_the_oldest_go(void **state UNUSED)
{
	char token[16];

	for (int i = 0; i < 10; i++, now_ms++) {
		(void)snprintf(token, sizeof(token), "r%d", i);
		assert_int_equal(put(token, "A"), 0);
	}
	assert_int_equal(pins_sweep(&store, board, now_ms, 7), 3);
	assert_pinned("r2", NULL);
	assert_pinned("r3", "A");
	assert_int_equal(entries(BINDINGS_PIN_EXPIRY), 7);
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
	struct gate gate;
	pid_t pid;

	assert_int_equal(put("r1", "A"), 0);
	gate_make(&gate);
	pid = child_start(hold_the_lock, &gate);
	gate_listen(&gate);
	child_stop(pid);
	assert_int_equal(put("r2", "A"), PINS_BUSY);
	assert_pinned("r1", "A");
	now_ms += 2 * HOUR;
	assert_int_equal(pins_sweep(&store, board, now_ms, 0), -EAGAIN);
	child_kill(pid);
	assert_int_equal(pins_sweep(&store, board, now_ms, 0), 1);
	gate_remove(&gate);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_tell_scopes_kinds_and_tokens_apart),
		cmocka_unit_test(token_is_the_same_however_json_writes_it),
		TEST(pin_is_found_until_it_expires),
		TEST(use_extends_it_lazily),
		TEST(several_go_together_and_the_latest_word_counts),
		TEST(sweep_removes_the_expired_in_bounded_steps),
		TEST(beyond_the_limit_the_oldest_go),
		TEST(nobody_waits_for_a_stopped_writer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
