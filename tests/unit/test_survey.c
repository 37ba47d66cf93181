/* SPDX-License-Identifier: MIT */
#include "worker/select/survey.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/pool.h"
#include "tests/unit/scratch.h"

#define BOOT "11111111-2222-3333-4444-555555555555"

static const int64_t now_ms = INT64_C(1700000000000);

static struct scratch scratch;
static struct board *board;
static struct store store;

/* Ids as they stand, one letter each. */
static const struct pool_member members[] = {
	{ .id = "a", .weight = 1, .request_retry = -1 },
	{ .id = "b", .weight = 1, .request_retry = 2 },
	{ .id = "c", .weight = 1 },
	{ .id = "d", .weight = 1, .flags = STATE_DISABLED },
	{ .id = "e", .weight = 1, .flags = STATE_PROXY_INVALID },
	{ .id = "f", .weight = 1, .dialects = DIALECT_BIT(DIALECT_GEMINI) },
	{ .id = "g", .weight = 1, .priority = 7 },
	{ .id = "h", .weight = 1, .absent = true },
	{ .id = "i", .weight = 0 },
};

static int
set_up(void **state UNUSED)
{
	scratch_make(&scratch);
	if (board_open_master(scratch.dir, BOOT, &board) != BOARD_MADE ||
	    store_open_master(&store, STORE_STATE, scratch.dir, BOOT) != 0)
		return -1;
	pool_publish(&store, board, members, ARRAY_LEN(members));
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	store_close(&store, false);
	board_close(board);
	scratch_remove(&scratch);
	return 0;
}

static void
bench(struct board_cell *cell, enum board_kind kind, int64_t left_ms,
    uint8_t reason, uint16_t status)
{
	(void)board_cell_raise(
	    cell, (struct board_word){ .incarnation = POOL_INCARNATION,
		      .kind = kind,
		      .until_ms = now_ms + left_ms });
	board_cell_set_note(
	    cell, (struct board_note){ .reason = reason, .status = status });
}

struct seen {
	struct survey_member v[ARRAY_LEN(members)];
	char ids[ARRAY_LEN(members) + 1];
	size_t n;
	size_t enough; /* 0: all are wanted */
	bool by_weight;
};

static bool
on_member(void *ctx, const struct survey_member *m)
{
	struct seen *seen = ctx;

	seen->ids[seen->n] = m->id[0];
	seen->v[seen->n++] = *m;
	return seen->n != seen->enough;
}

static int
look(const char *model, struct seen *seen)
{
	struct survey_ask ask = {
		.state = &store,
		.board = board,
		.model = model,
		.dialects = DIALECT_BIT(DIALECT_CLAUDE),
		.by_weight = seen->by_weight,
		.now_ms = now_ms,
	};

	return survey(&ask, on_member, seen);
}

static void
all_who_speak_the_dialect_are_seen_best_first(void **state UNUSED)
{
	struct seen seen = { .enough = 0 };

	assert_int_equal(look(POOL_MODEL, &seen), 0);
	assert_string_equal(seen.ids, "gabcdei");
	assert_int_equal(seen.v[0].state, SURVEY_READY);
	assert_int_equal(seen.v[1].request_retry, -1);
	assert_int_equal(seen.v[2].request_retry, 2);
	assert_int_equal(seen.v[4].state, SURVEY_DISABLED);
	assert_int_equal(seen.v[5].state, SURVEY_PROXY);
}

static void
who_weighs_nothing_is_seen_where_weights_do_not_count(void **state UNUSED)
{
	struct seen seen = { .by_weight = true };

	assert_int_equal(look(POOL_MODEL, &seen), 0);
	assert_string_equal(seen.ids, "gabcde");
}

static void
the_longer_bar_is_told(void **state UNUSED)
{
	struct seen seen = { .enough = 0 };

	bench(&board->cells[0], BOARD_COOLING, 5000, COOL_QUOTA, 429);
	bench(&board->cells[1], BOARD_COOLING, 5000, COOL_QUOTA, 429);
	bench(&board->credentials[1].cell, BOARD_BLOCKED, 9000, COOL_FORBIDDEN,
	    403);
	bench(
	    &board->credentials[2].cell, BOARD_COOLING, 9000, COOL_QUOTA, 429);
	bench(&board->cells[2], BOARD_BLOCKED, 5000, COOL_TRANSIENT, 500);
	bench(&board->cells[6], BOARD_BLOCKED, 0, COOL_TRANSIENT, 500);
	assert_int_equal(look(POOL_MODEL, &seen), 0);
	assert_int_equal(seen.v[0].state, SURVEY_READY); /* over */
	assert_int_equal(seen.v[1].state, SURVEY_COOLING);
	assert_int_equal(seen.v[1].until_ms, now_ms + 5000);
	assert_int_equal(seen.v[2].state, SURVEY_BLOCKED);
	assert_int_equal(seen.v[2].status, 403);
	assert_int_equal(seen.v[2].reason, COOL_FORBIDDEN);
	assert_int_equal(seen.v[3].state, SURVEY_COOLING);
	assert_int_equal(seen.v[3].until_ms, now_ms + 9000);
}

static void
it_ends_when_enough_was_seen(void **state UNUSED)
{
	struct seen seen = { .enough = 2 };

	assert_int_equal(look(POOL_MODEL, &seen), 0);
	assert_string_equal(seen.ids, "ga");
	assert_int_equal(look("else", &seen), -ENOENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_who_speak_the_dialect_are_seen_best_first),
		TEST(who_weighs_nothing_is_seen_where_weights_do_not_count),
		TEST(the_longer_bar_is_told),
		TEST(it_ends_when_enough_was_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
