/* SPDX-License-Identifier: MIT */
#include "common/binding_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "tests/unit/scratch.h"

#define BOOT "11111111-2222-3333-4444-555555555555"

enum { LATER = 1000000 };

static struct scratch scratch;
static struct board *board;

static int
set_up(void **state UNUSED)
{
	scratch_make(&scratch);
	return board_open_master(scratch.dir, BOOT, &board) == BOARD_MADE ? 0
									  : -1;
}

static int
tear_down(void **state UNUSED)
{
	board_close(board);
	scratch_remove(&scratch);
	return 0;
}

static struct binding_key
key_of(int session)
{
	struct binding_key key;
	char name[16];
	int len = snprintf(name, sizeof(name), "s%d", session);

	binding_key_make(&key, NULL, name, (size_t)len, "m", 1);
	return key;
}

static void
put(int session, uint16_t slot, uint64_t epoch, int64_t expires_ms)
{
	struct binding b = {
		.slot = slot,
		.epoch = epoch,
		.expires_ms = expires_ms,
	};
	struct binding_key key = key_of(session);

	binding_index_put(board, &key, &b);
}

static bool
get(int session, struct binding_brief *brief)
{
	struct binding_key key = key_of(session);

	return binding_index_get(board, &key, brief);
}

static void
drop(int session)
{
	struct binding_key key = key_of(session);

	binding_index_drop(board, &key);
}

static void
what_was_put_is_found_until_dropped(void **state UNUSED)
{
	struct binding_brief brief;

	assert_false(get(1, &brief));
	put(1, BOARD_CREDENTIALS - 1, UINT64_C(0xfedcba9876543210), 1234567);
	assert_true(get(1, &brief));
	assert_int_equal(brief.slot, BOARD_CREDENTIALS - 1);
	assert_int_equal(brief.epoch, 0x76543210);
	assert_int_equal(brief.expires_ms, 1234000);
	put(1, 7, 8, LATER);
	assert_true(get(1, &brief));
	assert_int_equal(brief.slot, 7);
	assert_false(get(2, &brief));
	drop(2);
	assert_true(get(1, &brief));
	drop(1);
	assert_false(get(1, &brief));
}

static void
what_cannot_be_told_is_left_out(void **state UNUSED)
{
	struct binding_brief brief;

	put(1, BOARD_CREDENTIALS, 1, LATER);
	put(2, 1, 1, (INT64_C(1) << 33) * 1000);
	put(3, 1, 1, -1000);
	for (int i = 1; i <= 3; i++)
		assert_false(get(i, &brief));
}

static void
models_of_a_session_are_told_apart(void **state UNUSED)
{
	struct binding b = { .slot = 3, .epoch = 4, .expires_ms = LATER };
	struct binding_key one, two;
	struct binding_brief brief;

	binding_key_make(&one, NULL, "s", 1, "one", 3);
	binding_key_make(&two, NULL, "s", 1, "two", 3);
	binding_index_put(board, &one, &b);
	assert_true(binding_index_get(board, &one, &brief));
	assert_false(binding_index_get(board, &two, &brief));
}

/* Beyond what a bucket holds those that end first give way. */
static void
what_is_found_is_right_however_many_there_are(void **state UNUSED)
{
	enum { MANY = 8 * BOARD_INDEX_FIRST };
	struct binding_brief brief;
	int found = 0;

	for (int i = 0; i < MANY; i++)
		put(i, (uint16_t)(i % 1000), (uint64_t)i, LATER + 1000L * i);
	for (int i = 0; i < MANY; i++) {
		if (!get(i, &brief))
			continue;
		found++;
		assert_int_equal(brief.slot, i % 1000);
		assert_int_equal(brief.epoch, i);
	}
	assert_true(found > BOARD_INDEX_FIRST * BOARD_INDEX_WAYS * 9 / 10);
	assert_true(get(MANY - 1, &brief));
}

static void
growth_makes_room_and_brings_nothing_back(void **state UNUSED)
{
	struct binding_brief brief;
	int found = 0;

	binding_index_fit(board, BOARD_INDEX_FIRST);
	assert_int_equal(board->index_buckets, BOARD_INDEX_FIRST);
	for (int i = 0; i < 1000; i++)
		put(i, 1, 1, LATER);
	binding_index_fit(board, BOARD_INDEX_FIRST + 1);
	assert_int_equal(board->index_buckets, 2 * BOARD_INDEX_FIRST);
	/* All of them change; half of the old entries are not to be seen. */
	for (int i = 0; i < 1000; i++) {
		drop(i);
		if (i % 2 == 0)
			put(i, 2, 2, LATER);
	}
	binding_index_fit(board, INT64_MAX);
	assert_int_equal(board->index_buckets, BOARD_INDEX_BUCKETS);
	for (int i = 0; i < 1000; i++) {
		if (!get(i, &brief))
			continue;
		found++;
		assert_int_equal(i % 2, 0);
		assert_int_equal(brief.slot, 2);
	}
	assert_true(found < 100);
	/* It never shrinks. */
	binding_index_fit(board, 1);
	assert_int_equal(board->index_buckets, BOARD_INDEX_BUCKETS);
}

static void
another_master_begins_with_none(void **state UNUSED)
{
	struct binding_brief brief;

	put(1, 1, 1, LATER);
	board_close(board);
	assert_int_equal(
	    board_open_master(scratch.dir, BOOT, &board), BOARD_KEPT);
	assert_false(get(1, &brief));
	put(1, 2, 2, LATER);
	assert_true(get(1, &brief));
}

/* Writes two bindings in turn, for ever; epoch and expiry follow the slot. */
static int
write_for_ever(void *ctx)
{
	gate_tell(ctx);
	for (unsigned i = 0;; i++) {
		uint16_t slot = (uint16_t)(i % 1000);

		put(i & 1 ? 1 : 2, slot, slot, slot * 1000L);
	}
	return 0;
}

static void
readers_see_no_entry_half_written(void **state UNUSED)
{
	struct binding_brief brief;
	struct gate gate;
	size_t found = 0;
	pid_t pid;

	gate_make(&gate);
	pid = child_start(write_for_ever, &gate);
	gate_listen(&gate);
	for (int i = 0; i < 300000; i++) {
		if (!get(i & 1 ? 1 : 2, &brief))
			continue;
		found++;
		assert_int_equal(brief.epoch, brief.slot);
		assert_int_equal(brief.expires_ms, brief.slot * 1000);
	}
	child_kill(pid);
	assert_true(found > 0);
	gate_remove(&gate);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_put_is_found_until_dropped),
		TEST(what_cannot_be_told_is_left_out),
		TEST(models_of_a_session_are_told_apart),
		TEST(what_is_found_is_right_however_many_there_are),
		TEST(growth_makes_room_and_brings_nothing_back),
		TEST(another_master_begins_with_none),
		TEST(readers_see_no_entry_half_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
