/* SPDX-License-Identifier: MIT */
#include "worker/select/pick.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "common/clock.h"
#include "common/str.h"
#include "tests/unit/pool.h"
#include "tests/unit/scratch.h"
#include "worker/select/strategy.h"

#define BOOT "11111111-2222-3333-4444-555555555555"

enum { HOUR = 3600 * 1000 };

static struct scratch scratch;
static struct board *board;
static struct store state_store, bindings_store;
static struct picker picker;
static struct pick pick;
static int64_t now_ms;
static uint8_t excluded_count;
static uint32_t excluded_slots[16];

static const struct config config = {
	.routing = {
		.strategy = STRATEGY_ROUND_ROBIN,
		.session_affinity = true,
		.session_affinity_ttl_ms = HOUR,
	},
};

/* All the state that a test may have changed, as it is at first. */
static int
set_up(void **state UNUSED)
{
	scratch_make(&scratch);
	now_ms = INT64_C(1700000000000);
	excluded_count = 0;
	if (board_open_master(scratch.dir, BOOT, &board) != BOARD_MADE ||
	    store_open_master(&state_store, STORE_STATE, scratch.dir, BOOT) !=
		0 ||
	    store_open_master(
		&bindings_store, STORE_BINDINGS, scratch.dir, BOOT) != 0)
		return -1;
	picker_init(&picker, &state_store, &bindings_store, board, &config);
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	picker_fini(&picker);
	store_read_end(&state_store);
	store_close(&state_store, false);
	store_close(&bindings_store, false);
	board_close(board);
	store_set_map_size_for_test(STORE_BINDINGS, 0);
	scratch_remove(&scratch);
	return 0;
}

#define PUBLISH(members)                                                       \
	pool_publish(&state_store, board, (members), ARRAY_LEN(members))

static struct binding_key
key_of(const char *session)
{
	struct binding_key key;

	binding_key_make(&key, NULL, session, strlen(session), POOL_MODEL,
	    strlen(POOL_MODEL));
	return key;
}

struct how {
	const char *session;
	const char *alias;
	const char *parent;
	const char *expected;
	const char *model;
	enum dialect dialect; /* DIALECT_OPENAI, the default, means Claude */
	int64_t wait_ms;
	const char *pin;
	bool hard_pin;
	unsigned round;
	int request_retry;
};

/* Picks into the global `pick`, which stays open until done(). */
static int
begin(struct how how)
{
	struct binding_key session, alias, parent;
	struct pick_ask ask = {
		.model = how.model != NULL ? how.model : POOL_MODEL,
		.dialect = how.dialect != 0 ? how.dialect : DIALECT_CLAUDE,
		.source = "test",
		.session_short = "sess...",
		.excluded = excluded_slots,
		.nexcluded = excluded_count,
		.expected = how.expected,
		.now_ms = now_ms,
		.wait_ms = how.wait_ms,
		.round = how.round,
		.request_retry = how.request_retry,
		.pin = how.pin,
		.hard_pin = how.hard_pin,
	};

	ask.model_len = strlen(ask.model);
	ask.dialects = DIALECT_BIT(ask.dialect);
	if (how.session != NULL) {
		session = key_of(how.session);
		ask.session = &session;
	}
	if (how.alias != NULL) {
		alias = key_of(how.alias);
		ask.alias = &alias;
	}
	if (how.parent != NULL) {
		parent = key_of(how.parent);
		ask.parent = &parent;
	}
	return pick_begin(&pick, &picker, &ask);
}

static void
done(void)
{
	pick_end(&pick);
}

#define HOW(...) ((struct how){ __VA_ARGS__ })

/* Picks and demands a credential; NULL: any decision. */
static void
assert_pick(struct how how, const char *credential, const char *decision)
{
	assert_int_equal(begin(how), PICK_OK);
	assert_string_equal(
	    state_string(pick.credential, pick.credential->id), credential);
	if (decision != NULL)
		assert_string_equal(
		    pick_decision_name(pick.decision), decision);
	assert_string_equal(
	    state_string(pick.credential, pick.model->upstream), "upstream-x");
	done();
}

static void
assert_outcome(struct how how, enum pick_outcome outcome, int64_t until_ms)
{
	assert_int_equal(begin(how), outcome);
	assert_int_equal(pick.until_ms, until_ms);
	assert_null(pick.credential);
	assert_null(pick.model);
	done();
}

/* The ids of so many picks in a row, one letter each. */
static const char *
letters(int count)
{
	static char text[64];

	assert_true(count < (int)sizeof(text));
	for (int i = 0; i < count; i++) {
		assert_int_equal(begin(HOW(0)), PICK_OK);
		text[i] = *state_string(pick.credential, pick.credential->id);
		done();
	}
	text[count] = '\0';
	return text;
}

static void
raise_cell(struct board_cell *cell, enum board_kind kind, int64_t until_ms)
{
	(void)board_cell_raise(
	    cell, (struct board_word){ POOL_INCARNATION, kind, until_ms });
}

static void
bar(uint32_t member, enum board_kind kind, int64_t until_ms)
{
	raise_cell(&board->cells[member], kind, until_ms);
}

static void
exclude(uint32_t slot)
{
	excluded_slots[excluded_count++] = slot;
}

static const struct pool_member abc[] = {
	{ .id = "a", .weight = 5 },
	{ .id = "b", .weight = 3 },
	{ .id = "c", .weight = 2 },
};

static const struct pool_member tiers[] = {
	{ .id = "a", .priority = 10, .weight = 1 },
	{ .id = "b", .priority = 10, .weight = 1 },
	{ .id = "c", .priority = 0, .weight = 1 },
	{ .id = "d", .priority = -5, .weight = 1 },
};

static void
round_robin_goes_by_id_and_skips_the_barred(void **state UNUSED)
{
	PUBLISH(abc);
	assert_string_equal(letters(7), "abcabca");
	bar(1, BOARD_BLOCKED, now_ms + 1000);
	assert_string_equal(letters(4), "caca");
	now_ms += 1000;
	assert_string_equal(letters(4), "bcab");
}

static void
word_of_the_whole_credential_bars_its_models(void **state UNUSED)
{
	PUBLISH(abc);
	raise_cell(&board->credentials[0].cell, BOARD_COOLING, now_ms + 1000);
	assert_string_equal(letters(4), "bcbc");
	/* A word of a predecessor does not. */
	board_cell_reset(&board->credentials[0].cell, POOL_INCARNATION + 1);
	(void)board_cell_raise(&board->credentials[0].cell,
	    (struct board_word){
		POOL_INCARNATION + 1, BOARD_BLOCKED, now_ms + 1000 });
	assert_string_equal(letters(3), "abc");
}

static void
each_dialect_has_its_own_rotation(void **state UNUSED)
{
	static const struct pool_member members[] = {
		{ .id = "a", .dialects = DIALECT_BIT(DIALECT_CLAUDE) },
		{ .id = "b",
		    .dialects = DIALECT_BIT(DIALECT_CLAUDE) |
				DIALECT_BIT(DIALECT_GEMINI) },
		{ .id = "c", .dialects = DIALECT_BIT(DIALECT_GEMINI) },
	};

	PUBLISH(members);
	assert_string_equal(letters(3), "aba");
	assert_pick(HOW(.dialect = DIALECT_GEMINI), "b", "none");
	assert_pick(HOW(.dialect = DIALECT_GEMINI), "c", "none");
	assert_string_equal(letters(2), "ba");
	assert_outcome(HOW(.dialect = DIALECT_RESPONSES), PICK_DIALECT, 0);
}

static void
best_tier_that_has_a_ready_member_serves(void **state UNUSED)
{
	PUBLISH(tiers);
	assert_string_equal(letters(3), "aba");
	bar(0, BOARD_COOLING, now_ms + 2000);
	bar(1, BOARD_BLOCKED, now_ms + 1000);
	assert_string_equal(letters(2), "cc");
	bar(2, BOARD_COOLING, now_ms + 9000);
	assert_string_equal(letters(2), "dd");
	now_ms += 1000;
	assert_string_equal(letters(2), "bb");
}

static void
tier_without_a_cursor_still_serves(void **state UNUSED)
{
	static const struct state_member_input member = {
		.id = "a",
		.fixed = { .incarnation = POOL_INCARNATION, .dialects = 4 },
	};
	static const uint32_t none = BOARD_NONE;
	struct state_route_input in = { .name = POOL_MODEL,
		.members = &member,
		.nmembers = 1,
		.cursors = &none,
		.ncursors = 1 };
	MDB_txn *txn;

	PUBLISH(abc);
	assert_int_equal(store_write(&state_store, &txn), 0);
	assert_int_equal(state_put_route(&state_store, txn, &in), 0);
	assert_int_equal(store_commit(txn), 0);
	assert_string_equal(letters(2), "aa");
}

static void
unknown_model_is_told_from_one_without_credentials(void **state UNUSED)
{
	PUBLISH(abc);
	assert_outcome(HOW(.model = "model-y"), PICK_UNKNOWN_MODEL, 0);
	assert_outcome(HOW(.model = "Model-x"), PICK_UNKNOWN_MODEL, 0);
	assert_outcome(
	    HOW(.model = "model-y", .session = "s"), PICK_UNKNOWN_MODEL, 0);
	pool_publish(&state_store, board, NULL, 0);
	assert_outcome(HOW(0), PICK_BLOCKED, 0);
}

static void
refusal_tells_cooling_from_blocked_and_exhausted(void **state UNUSED)
{
	PUBLISH(abc);
	bar(0, BOARD_COOLING, now_ms + 5000);
	bar(1, BOARD_COOLING, now_ms + 3000);
	bar(2, BOARD_COOLING, now_ms + 4000);
	/* b waits for the later one of its two words */
	raise_cell(&board->credentials[1].cell, BOARD_COOLING, now_ms + 4500);
	assert_outcome(HOW(0), PICK_COOLING, now_ms + 4000);

	bar(2, BOARD_BLOCKED, now_ms + 6000);
	assert_outcome(HOW(0), PICK_BLOCKED, now_ms + 4500);

	/* Who was tried does not count. */
	exclude(2);
	assert_outcome(HOW(0), PICK_COOLING, now_ms + 4500);
	exclude(1);
	exclude(0);
	assert_outcome(HOW(0), PICK_EXHAUSTED, 0);
}

static void
excluded_credentials_are_skipped(void **state UNUSED)
{
	PUBLISH(abc);
	exclude(0);
	assert_string_equal(letters(3), "bcb");
	exclude(2);
	assert_string_equal(letters(2), "bb");
}

static void
record_that_forbids_it_is_found_behind_the_route(void **state UNUSED)
{
	static const struct pool_member members[] = {
		{ .id = "a", .flags = STATE_DISABLED },
		{ .id = "b", .flags = STATE_PROXY_INVALID },
		{ .id = "c" },
		{ .id = "d", .modelless = true },
	};

	PUBLISH(members);
	assert_int_equal(begin(HOW(0)), PICK_OK);
	assert_string_equal(
	    state_string(pick.credential, pick.credential->id), "c");
	assert_int_equal(pick.npassed, 2);
	assert_string_equal(pick.passed[0].credential, "a");
	assert_string_equal(pick_why_name(pick.passed[0].why), "disabled");
	assert_string_equal(pick_why_name(pick.passed[1].why), "proxy");
	done();
	assert_string_equal(letters(3), "ccc");
	bar(2, BOARD_COOLING, now_ms + 100);
	assert_outcome(HOW(0), PICK_BLOCKED, now_ms + 100);
}

static void
passed_over_are_told_once_each_and_bounded(void **state UNUSED)
{
	static struct pool_member members[100], few[READY_SMALL];
	static char ids[100][16];

	for (int i = 0; i < 100; i++) {
		(void)snprintf(ids[i], sizeof(ids[i]), "c%02d", i);
		members[i].id = ids[i];
		if (i < READY_SMALL)
			few[i].id = ids[i];
	}
	PUBLISH(few);
	for (uint32_t i = 0; i < READY_SMALL; i++)
		bar(i, BOARD_COOLING, now_ms + 1);
	assert_int_equal(begin(HOW(0)), PICK_COOLING);
	assert_int_equal(pick.npassed, PICK_PASSED_MAX);
	done();

	PUBLISH(members);
	for (uint32_t i = 0; i < 99; i++)
		bar(i, i % 2 ? BOARD_COOLING : BOARD_BLOCKED, now_ms + 1 + i);
	assert_int_equal(begin(HOW(0)), PICK_OK);
	assert_int_equal(pick.npassed, PICK_PASSED_LARGE);
	assert_string_equal(pick.passed[0].credential, "c00");
	assert_string_equal(pick_why_name(pick.passed[0].why), "blocked");
	assert_string_equal(pick_why_name(pick.passed[1].why), "cooling");
	assert_int_equal(pick.passed[1].until_ms, now_ms + 2);
	done();
}

static void
fill_first_stays_with_the_first_that_is_ready(void **state UNUSED)
{
	picker.strategy = strategy_get(STRATEGY_FILL_FIRST);
	PUBLISH(abc);
	assert_string_equal(letters(3), "aaa");
	bar(0, BOARD_COOLING, now_ms + 1000);
	assert_string_equal(letters(3), "bbb");
	now_ms += 1000;
	assert_string_equal(letters(2), "aa");
}

static void
weighted_takes_turns_smoothly(void **state UNUSED)
{
	picker.strategy = strategy_get(STRATEGY_WEIGHTED);
	PUBLISH(abc);
	assert_string_equal(letters(20), "abcaabacbaabcaabacba");
	/* Who is barred leaves its turns to who comes next. */
	bar(0, BOARD_COOLING, now_ms + 1000);
	assert_string_equal(letters(5), "bcbcb");
}

static void
weight_of_nothing_serves_only_where_weights_do_not_count(void **state UNUSED)
{
	static const struct pool_member members[] = {
		{ .id = "a", .priority = 9, .weight = 0 },
		{ .id = "b", .weight = 4 },
		{ .id = "c", .weight = 0 },
		{ .id = "d", .weight = 4 },
	};

	PUBLISH(members);
	assert_pick(HOW(.session = "s"), "a", "new");
	picker.strategy = strategy_get(STRATEGY_WEIGHTED);
	assert_string_equal(letters(4), "bdbd");
	assert_int_equal(begin(HOW(.session = "s")), PICK_OK);
	assert_string_equal(pick_decision_name(pick.decision), "moved");
	assert_string_equal(pick_why_name(pick.passed[0].why), "weight");
	done();
}

static void
changed_strategy_finds_its_place(void **state UNUSED)
{
	PUBLISH(abc);
	picker.strategy = strategy_get(STRATEGY_WEIGHTED);
	(void)letters(8); /* the cursor is beyond the end of a list of three */
	picker.strategy = strategy_get(STRATEGY_ROUND_ROBIN);
	assert_string_equal(letters(4), "cabc");
	assert_true(strategy_get(STRATEGY_WEIGHTED)->on_change(9, 3) == 0);
	assert_true(strategy_get(STRATEGY_ROUND_ROBIN)->on_change(8, 3) == 2);
}

static void
session_hash_moves_only_the_sessions_of_who_drops_out(void **state UNUSED)
{
	char session[16], before[50], id;
	int moved = 0, of_b = 0;

	picker.strategy = strategy_get(STRATEGY_SESSION_HASH);
	picker.affinity = false;
	PUBLISH(abc);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 50; i++) {
			(void)snprintf(session, sizeof(session), "s%d", i);
			assert_int_equal(
			    begin(HOW(.session = session)), PICK_OK);
			id =
			    *state_string(pick.credential, pick.credential->id);
			done();
			if (round == 0)
				of_b += (before[i] = id) == 'b';
			else if (id != before[i]) {
				assert_int_equal(before[i], 'b');
				moved++;
			}
		}
		bar(1, BOARD_COOLING, now_ms + 1000);
	}
	assert_int_equal(moved, of_b);
	assert_in_range(of_b, 5, 30);
	/* Without a session it takes turns. */
	now_ms += 1000;
	assert_string_equal(letters(3), "abc");
}

static void
session_keeps_its_credential(void **state UNUSED)
{
	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	assert_pick(HOW(.session = "t"), "b", "new");
	for (int i = 0; i < 5; i++)
		assert_pick(HOW(.session = "s"), "a", "hit");
	/* Bound picks move no cursor. */
	assert_pick(HOW(.session = "u"), "c", "new");
	assert_pick(HOW(0), "a", "none");
}

static void
bound_pick_does_not_read_the_route(void **state UNUSED)
{
	MDB_txn *txn;

	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	assert_int_equal(store_write(&state_store, &txn), 0);
	assert_int_equal(state_delete_route(&state_store, txn, POOL_MODEL), 0);
	assert_int_equal(store_commit(txn), 0);
	assert_pick(HOW(.session = "s"), "a", "hit");
}

/* The index on the board has what it needs. */
static void
bound_pick_does_not_read_the_bindings(void **state UNUSED)
{
	struct binding_key key = key_of("s");
	MDB_val k = { BINDING_KEY_LEN, key.bytes };
	MDB_txn *txn;

	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	assert_int_equal(store_write(&bindings_store, &txn), 0);
	assert_int_equal(
	    mdb_del(txn, bindings_store.tables[BINDINGS_BINDING], &k, NULL), 0);
	assert_int_equal(store_commit(txn), 0);
	assert_pick(HOW(.session = "s"), "a", "hit");
	/* But it reads them when the credential cannot serve, or at its end. */
	bar(0, BOARD_COOLING, now_ms + 1000);
	assert_pick(HOW(.session = "s"), "b", "new");
	now_ms += HOUR + HOUR / 16;
	assert_pick(HOW(.session = "s"), "c", "new");
}

static void
live_binding_outranks_priority(void **state UNUSED)
{
	PUBLISH(tiers);
	bar(0, BOARD_COOLING, now_ms + 1000);
	bar(1, BOARD_COOLING, now_ms + 1000);
	assert_pick(HOW(.session = "s"), "c", "new");
	now_ms += 2000;
	assert_pick(HOW(.session = "s"), "c", "hit");
	assert_pick(HOW(.session = "t"), "a", "new");
}

static void
pin_decides_and_moves_no_session(void **state UNUSED)
{
	PUBLISH(abc);
	assert_pick(HOW(.pin = "c", .hard_pin = true), "c", "none");
	assert_pick(HOW(.session = "s"), "a", "new");
	assert_pick(HOW(.session = "s", .pin = "c"), "c", "none");
	assert_pick(HOW(.session = "s"), "a", "hit");
	assert_pick(HOW(.session = "s", .pin = "a"), "a", "hit");
	/* Nothing else says where this one is to go. */
	assert_pick(HOW(.session = "t", .pin = "c"), "c", "new");
	assert_pick(HOW(.session = "t"), "c", "hit");
}

static void
hard_pin_is_refused_and_a_soft_one_falls_back(void **state UNUSED)
{
	PUBLISH(abc);
	bar(2, BOARD_COOLING, now_ms + 1000);
	assert_pick(HOW(.session = "s", .pin = "c"), "a", "new");
	assert_outcome(HOW(.session = "s", .pin = "c", .hard_pin = true),
	    PICK_PINNED, now_ms + 1000);
	assert_int_equal(pick.pin_why, PICK_WHY_COOLING);
	assert_outcome(HOW(.pin = "c", .hard_pin = true, .wait_ms = 1000),
	    PICK_WAIT, now_ms + 1000);
	assert_pick(HOW(.session = "s"), "a", "hit");
	now_ms += 1000;
	assert_pick(HOW(.pin = "c", .hard_pin = true), "c", "none");
	exclude(2);
	assert_outcome(HOW(.pin = "c", .hard_pin = true), PICK_PINNED, 0);
	assert_int_equal(pick.pin_why, PICK_WHY_EXCLUDED);
	assert_outcome(HOW(.pin = "removed", .hard_pin = true), PICK_PINNED, 0);
	assert_int_equal(pick.pin_why, PICK_WHY_GONE);
}

static void
failed_attempt_moves_the_session_for_all(void **state UNUSED)
{
	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	exclude(0);
	assert_pick(HOW(.session = "s", .expected = "a"), "b", "moved");
	/* Another one that failed on a in parallel. */
	assert_pick(HOW(.session = "s", .expected = "a"), "b", "hit");
	excluded_count = 0;
	assert_pick(HOW(.session = "s"), "b", "hit");
	/* Not pulled back to a, though a is ready. */
	now_ms += 1000;
	assert_pick(HOW(.session = "s"), "b", "hit");
}

static void
cooling_credential_loses_its_session_for_good(void **state UNUSED)
{
	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	bar(0, BOARD_COOLING, now_ms + 1000);
	assert_int_equal(begin(HOW(.session = "s")), PICK_OK);
	assert_string_equal(pick_decision_name(pick.decision), "moved");
	assert_int_equal(pick.npassed, 1);
	assert_string_equal(pick.passed[0].credential, "a");
	assert_string_equal(pick_why_name(pick.passed[0].why), "cooling");
	assert_int_equal(pick.passed[0].until_ms, now_ms + 1000);
	done();
	now_ms += 1000;
	assert_pick(HOW(.session = "s"), "b", "hit");
}

static void
request_may_wait_for_its_credential(void **state UNUSED)
{
	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	bar(0, BOARD_COOLING, now_ms + 1000);
	assert_outcome(
	    HOW(.session = "s", .wait_ms = 1000), PICK_WAIT, now_ms + 1000);
	assert_pick(HOW(.session = "s", .wait_ms = 999), "b", "moved");
	/* Whatever it is out for, unless it has just failed itself. */
	bar(1, BOARD_BLOCKED, now_ms + 10);
	assert_outcome(
	    HOW(.session = "s", .wait_ms = 1000), PICK_WAIT, now_ms + 10);
	exclude(1);
	assert_pick(HOW(.session = "s", .expected = "b", .wait_ms = 1000), "c",
	    "moved");
}

static void
pool_is_back_when_the_first_of_it_is(void **state UNUSED)
{
	static const struct pool_member members[] = {
		{ .id = "a", .pooled = true },
		{ .id = "x", .absent = true },
		{ .id = "y", .absent = true },
	};
	struct how how = { .session = "s", .wait_ms = 2000 };

	PUBLISH(members);
	assert_pick(how, "a", "new");
	bar(0, BOARD_BLOCKED, now_ms + 9000);
	bar(1, BOARD_COOLING, now_ms + 2000);
	bar(2, BOARD_COOLING, now_ms + 3000);
	for (uint64_t start = 0; start < POOL_UPSTREAMS; start++) {
		atomic_store(&board->cursors[POOL_CURSOR], start);
		assert_outcome(how, PICK_WAIT, now_ms + 2000);
	}
	now_ms += 2000;
	assert_pick(how, "a", "hit");
}

static void
session_survives_a_time_when_nobody_can_serve(void **state UNUSED)
{
	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	for (uint32_t i = 0; i < 3; i++)
		bar(i, BOARD_COOLING, now_ms + 1000 + i);
	assert_outcome(HOW(.session = "s"), PICK_COOLING, now_ms + 1000);
	now_ms += 5000;
	assert_pick(HOW(.session = "s"), "a", "hit");
}

static const struct {
	struct pool_member a; /* what becomes of the bound credential */
	const char *why;
} changes[] = {
	{ { .id = "a", .flags = STATE_DISABLED }, "disabled" },
	{ { .id = "a", .flags = STATE_PROXY_INVALID }, "proxy" },
	{ { .id = "a", .epoch = 1 }, "unbound" },
	{ { .id = "a", .modelless = true }, "model" },
	{ { .id = "a", .dialects = DIALECT_BIT(DIALECT_GEMINI) }, "dialect" },
	{ { .id = "a", .absent = true }, "gone" },
};

static void
credential_that_cannot_serve_any_more_is_replaced(void **state UNUSED)
{
	struct pool_member members[2] = { { .id = "a" }, { .id = "b" } };
	char session[8];

	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		(void)snprintf(session, sizeof(session), "s%zu", i);
		members[0] = (struct pool_member){ .id = "a" };
		PUBLISH(members);
		atomic_store(&board->cursors[DIALECT_CLAUDE], 0);
		assert_pick(HOW(.session = session), "a", "new");
		members[0] = changes[i].a;
		PUBLISH(members);
		assert_int_equal(begin(HOW(.session = session)), PICK_OK);
		assert_string_equal(pick_decision_name(pick.decision), "moved");
		assert_string_equal(pick.passed[0].credential, "a");
		assert_string_equal(
		    pick_why_name(pick.passed[0].why), changes[i].why);
		/* After an unbinding the same one may be chosen again. */
		if (changes[i].a.epoch == 0)
			assert_string_equal(
			    state_string(pick.credential, pick.credential->id),
			    "b");
		done();
		assert_int_equal(begin(HOW(.session = session)), PICK_OK);
		assert_string_equal(pick_decision_name(pick.decision), "hit");
		done();
	}
}

static void
session_survives_what_happens_to_others(void **state UNUSED)
{
	struct pool_member members[3];

	memcpy(members, abc, sizeof(members));
	PUBLISH(members);
	assert_pick(HOW(.session = "s"), "a", "new");
	members[1].absent = true;
	members[2].priority = 100;
	PUBLISH(members);
	assert_pick(HOW(.session = "s"), "a", "hit");
}

static void
second_turn_inherits_what_the_first_was_bound_to(void **state UNUSED)
{
	PUBLISH(abc);
	assert_pick(HOW(.session = "msg:short"), "a", "new");
	assert_pick(
	    HOW(.session = "msg:full", .alias = "msg:short"), "a", "adopted");
	assert_pick(
	    HOW(.session = "msg:full", .alias = "msg:short"), "a", "hit");
	assert_pick(HOW(.session = "msg:short"), "a", "hit");
}

/* A second id that comes along later is bound to the same from then on. */
static void
id_that_comes_along_is_bound_too(void **state UNUSED)
{
	PUBLISH(abc);
	assert_pick(HOW(.session = "pck:p"), "a", "new");
	assert_pick(HOW(.session = "pck:p", .alias = "conv:c"), "a", "hit");
	assert_pick(HOW(.session = "conv:c"), "a", "hit");

	assert_pick(HOW(.session = "conv:d"), "b", "new");
	assert_pick(HOW(.session = "pck:q", .alias = "conv:d"), "b", "adopted");
	assert_pick(HOW(.session = "pck:q"), "b", "hit");

	assert_pick(HOW(.session = "pck:r", .alias = "conv:e"), "c", "new");
	assert_pick(HOW(.session = "conv:e"), "c", "hit");
}

static bool
nothing_usable(void *ctx UNUSED, const struct binding *found UNUSED)
{
	return false;
}

/* ctx: a member of the pool. */
static int
choose_member(void *ctx, struct binding *chosen)
{
	const struct pool_member *member = ctx;

	chosen->epoch = POOL_EPOCH + member->epoch;
	(void)str_copy(
	    chosen->credential, sizeof(chosen->credential), member->id);
	return 0;
}

/* Binds another model of a session. */
static void
bind_model(const char *session, const char *model, struct pool_member member)
{
	const struct bind_ops ops = { nothing_usable, choose_member, &member };
	struct binding winner;
	struct binding_key key;
	enum bind_outcome outcome;

	binding_key_make(
	    &key, NULL, session, strlen(session), model, strlen(model));
	assert_int_equal(
	    bindings_bind(&bindings_store, board, &key, NULL, NULL, HOUR,
		now_ms, PICK_LOCK_WAIT_MS, &ops, &winner, &outcome),
	    0);
}

#define MEMBER(...) ((struct pool_member){ .id = __VA_ARGS__ })

static void
second_model_begins_where_the_session_is_served(void **state UNUSED)
{
	PUBLISH(abc);
	bind_model("s", "other", MEMBER("b"));
	assert_pick(HOW(.session = "s"), "b", "new");
	/* What is served there already moves no cursor. */
	assert_pick(HOW(.session = "t"), "a", "new");
	/* From then on it is bound for itself. */
	bind_model("s", "other", MEMBER("c"));
	assert_pick(HOW(.session = "s"), "b", "hit");

	/* Of several models the one used last counts. */
	bind_model("u", "one", MEMBER("a"));
	now_ms += 1000;
	bind_model("u", "two", MEMBER("c"));
	now_ms += 1000;
	bind_model("u", "three", MEMBER("b"));
	assert_pick(HOW(.session = "u"), "b", "new");
	bind_model("v", "two", MEMBER("c"));
	now_ms += 1000;
	bind_model("v", "one", MEMBER("b"));
	bar(1, BOARD_BLOCKED, now_ms + 1000);
	assert_pick(HOW(.session = "v"), "c", "new");
}

static void
second_model_does_not_follow_into_a_lower_tier(void **state UNUSED)
{
	PUBLISH(tiers);
	bind_model("s", "other", MEMBER("c"));
	assert_pick(HOW(.session = "s"), "a", "new");
	bar(0, BOARD_COOLING, now_ms + 1000);
	bar(1, BOARD_COOLING, now_ms + 1000);
	bind_model("t", "other", MEMBER("c"));
	assert_pick(HOW(.session = "t"), "c", "new");
}

static void
void_binding_of_another_model_is_no_hint(void **state UNUSED)
{
	PUBLISH(abc);
	bind_model("s", "other", MEMBER("c", .epoch = 1));
	assert_pick(HOW(.session = "s"), "a", "new");
	bind_model("t", "other", MEMBER("gone"));
	assert_pick(HOW(.session = "t"), "b", "new");
}

static void
sub_agent_begins_on_its_parents_credential(void **state UNUSED)
{
	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	assert_pick(HOW(.session = "parent"), "b", "new");
	assert_pick(HOW(.session = "child", .parent = "parent"), "b", "new");
	/* It is another session: the one moves, the other stays. */
	assert_pick(HOW(.session = "parent", .expected = "b"), "c", "moved");
	assert_pick(HOW(.session = "child", .parent = "parent"), "b", "hit");

	/* The parent was served with another model only. */
	bind_model("elsewhere", "other", MEMBER("b"));
	assert_pick(HOW(.session = "two", .parent = "elsewhere"), "b", "new");
	/* Its own models come first. */
	bind_model("three", "other", MEMBER("c"));
	assert_pick(HOW(.session = "three", .parent = "elsewhere"), "c", "new");
	/* A parent that cannot serve, or that nobody knows, is no hint. */
	bar(1, BOARD_COOLING, now_ms + 1000);
	assert_pick(HOW(.session = "four", .parent = "elsewhere"), "a", "new");
	assert_pick(HOW(.session = "five", .parent = "nobody"), "c", "new");
}

static void
affinity_switched_off_ignores_bindings_and_keeps_them(void **state UNUSED)
{
	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	picker.affinity = false;
	assert_pick(HOW(.session = "s"), "b", "none");
	picker.affinity = true;
	assert_pick(HOW(.session = "s"), "a", "hit");
}

static void
use_extends_the_binding_lazily(void **state UNUSED)
{
	struct binding_key key = key_of("s");
	struct binding b;
	MDB_envinfo before, after;
	MDB_txn *txn;

	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	assert_int_equal(mdb_env_info(bindings_store.env, &before), 0);
	now_ms += HOUR / 16;
	assert_pick(HOW(.session = "s"), "a", "hit");
	assert_int_equal(mdb_env_info(bindings_store.env, &after), 0);
	assert_int_equal(before.me_last_txnid, after.me_last_txnid);
	now_ms += 1;
	assert_pick(HOW(.session = "s"), "a", "hit");
	assert_int_equal(store_read(&bindings_store, &txn), 0);
	assert_int_equal(
	    bindings_get(&bindings_store, txn, &key, now_ms, &b), 0);
	store_read_end(&bindings_store);
	assert_int_equal(b.expires_ms, now_ms + HOUR + HOUR / 16);
	assert_string_equal(b.source, "test");
	assert_string_equal(b.session, "sess...");
	assert_string_equal(b.model, POOL_MODEL);
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
unbound_while_the_lock_is_held_parallel_requests_agree(void **state UNUSED)
{
	struct gate gate;
	char id[8];
	pid_t pid;

	PUBLISH(abc);
	gate_make(&gate);
	pid = child_start(hold_the_lock, &gate);
	gate_listen(&gate);
	child_stop(pid);
	assert_int_equal(begin(HOW(.session = "s")), PICK_OK);
	assert_string_equal(pick_decision_name(pick.decision), "none");
	(void)str_copy(
	    id, sizeof(id), state_string(pick.credential, pick.credential->id));
	done();
	for (int i = 0; i < 5; i++)
		assert_pick(HOW(.session = "s"), id, "none");
	child_kill(pid);
	/* Bound later, it is bound to who served it. */
	assert_pick(HOW(.session = "s"), id, "new");
	assert_pick(HOW(.session = "s"), id, "hit");
	gate_remove(&gate);
}

static void
who_is_bound_stays_so_while_the_lock_is_held(void **state UNUSED)
{
	char session[16];
	struct gate gate;
	pid_t pid;

	PUBLISH(abc);
	for (int i = 0; i < 3; i++) {
		(void)snprintf(session, sizeof(session), "s%d", i);
		assert_pick(HOW(.session = session), abc[i].id, "new");
	}
	gate_make(&gate);
	pid = child_start(hold_the_lock, &gate);
	gate_listen(&gate);
	child_stop(pid);
	for (int i = 0; i < 3; i++) {
		(void)snprintf(session, sizeof(session), "s%d", i);
		assert_pick(HOW(.session = session), abc[i].id, "hit");
		/* A second turn, which would inherit. */
		assert_pick(HOW(.session = "later", .alias = session),
		    abc[i].id, "adopted");
		/* An id that comes along. */
		assert_pick(HOW(.session = session, .alias = "alias"),
		    abc[i].id, "hit");
	}
	child_kill(pid);
	gate_remove(&gate);
}

static void
killed_holder_is_recovered_within_the_deadline(void **state UNUSED)
{
	struct gate gate;
	char session[16];
	pid_t pid;

	PUBLISH(abc);
	gate_make(&gate);
	for (int i = 0; i < 10; i++) {
		pid = child_start(hold_the_lock, &gate);
		gate_listen(&gate);
		child_kill(pid);
		(void)snprintf(session, sizeof(session), "s%d", i);
		assert_int_equal(begin(HOW(.session = session)), PICK_OK);
		assert_string_equal(pick_decision_name(pick.decision), "new");
		done();
	}
	gate_remove(&gate);
}

static void
full_map_serves_unbound_and_agrees(void **state UNUSED)
{
	char session[24], id[8];
	int i;

	PUBLISH(abc);
	store_close(&bindings_store, true);
	store_set_map_size_for_test(STORE_BINDINGS, 256 * 1024);
	assert_int_equal(store_open_master(&bindings_store, STORE_BINDINGS,
			     scratch.dir, BOOT),
	    0);
	for (i = 0; i < 100000; i++) {
		(void)snprintf(session, sizeof(session), "s%d", i);
		assert_int_equal(begin(HOW(.session = session)), PICK_OK);
		if (pick.decision == PICK_DECISION_NONE)
			break;
		done();
	}
	assert_int_equal(pick.decision, PICK_DECISION_NONE);
	(void)str_copy(
	    id, sizeof(id), state_string(pick.credential, pick.credential->id));
	done();
	assert_pick(HOW(.session = session), id, "none");
	/* Who is bound stays so. */
	assert_int_equal(begin(HOW(.session = "s0")), PICK_OK);
	assert_string_equal(pick_decision_name(pick.decision), "hit");
	done();
}

/* A worker process: opens everything for itself, then waits for the gate. */
struct crew {
	struct gate gate;
	int picks;
	bool session;
	int counts; /* descriptor: where the counts go */
};

struct counts {
	uint32_t of[8];
};

static int
open_as_worker(struct store stores[2])
{
	const struct strategy *strategy = picker.strategy;
	struct board *mine;

	if (store_open_worker(&stores[0], STORE_STATE, scratch.dir) != 0 ||
	    store_open_worker(&stores[1], STORE_BINDINGS, scratch.dir) != 0 ||
	    board_open_worker(scratch.dir, &mine) != 0)
		return -1;
	picker_init(&picker, &stores[0], &stores[1], mine, &config);
	picker.strategy = strategy;
	return 0;
}

static int
work(void *ctx)
{
	struct crew *crew = ctx;
	struct counts counts = { { 0 } };
	struct store stores[2];
	struct how how = { .session = crew->session ? "first" : NULL };

	if (open_as_worker(stores) < 0)
		return 1;
	gate_tell(&crew->gate);
	gate_pass(&crew->gate);
	for (int i = 0; i < crew->picks; i++) {
		if (begin(how) != PICK_OK)
			return 2;
		counts.of[pick.credential->slot]++;
		done();
	}
	return write(crew->counts, &counts, sizeof(counts)) == sizeof(counts)
		   ? 0
		   : 3;
}

/* Lets `size` processes pick all at once and adds up what they took. */
static struct counts
let_crew_pick(int size, int picks, bool session)
{
	struct crew crew = { .picks = picks, .session = session };
	struct counts sum = { { 0 } }, one;
	pid_t pids[16];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	crew.counts = fds[1];
	gate_make(&crew.gate);
	for (int i = 0; i < size; i++)
		pids[i] = child_start(work, &crew);
	for (int i = 0; i < size; i++)
		gate_listen(&crew.gate);
	gate_open(&crew.gate);
	for (int i = 0; i < size; i++)
		assert_int_equal(child_wait(pids[i]), 0);
	for (int i = 0; i < size; i++) {
		assert_int_equal(read(fds[0], &one, sizeof(one)), sizeof(one));
		for (size_t k = 0; k < ARRAY_LEN(sum.of); k++)
			sum.of[k] += one.of[k];
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
	gate_remove(&crew.gate);
	return sum;
}

static uint32_t
largest(const struct counts *counts)
{
	uint32_t most = 0;

	for (size_t i = 0; i < ARRAY_LEN(counts->of); i++) {
		if (counts->of[i] > most)
			most = counts->of[i];
	}
	return most;
}

static void
parallel_first_requests_land_on_one_credential(void **state UNUSED)
{
	struct binding_key key = key_of("first");
	struct counts sum;

	PUBLISH(abc);
	for (int round = 0; round < 10; round++) {
		sum = let_crew_pick(8, 1, true);
		assert_int_equal(largest(&sum), 8);
		assert_int_equal(
		    bindings_unbind(&bindings_store, board, &key, NULL, 0), 0);
	}
}

static void
round_robin_is_exact_over_processes(void **state UNUSED)
{
	static const struct pool_member members[] = { { .id = "a" },
		{ .id = "b" }, { .id = "c" }, { .id = "d" }, { .id = "e" },
		{ .id = "f" }, { .id = "g" } };
	struct counts sum;

	PUBLISH(members);
	sum = let_crew_pick(4, 3500, false);
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		assert_int_equal(sum.of[i], 4 * 3500 / 7);
}

static void
weighted_is_exact_over_processes(void **state UNUSED)
{
	struct counts sum;

	picker.strategy = strategy_get(STRATEGY_WEIGHTED);
	PUBLISH(abc);
	sum = let_crew_pick(4, 2500, false);
	assert_int_equal(sum.of[0], 5000);
	assert_int_equal(sum.of[1], 3000);
	assert_int_equal(sum.of[2], 2000);
}

static void
settings_come_from_the_routing_group(void **state UNUSED)
{
	static const struct config other = {
		.routing = {
			.strategy = STRATEGY_FILL_FIRST,
			.session_affinity_ttl_ms = 1234,
		},
	};
	struct picker p;

	picker_init(&p, &state_store, &bindings_store, board, &other);
	assert_false(p.affinity);
	assert_int_equal(p.ttl_ms, 1234);
	assert_string_equal(p.strategy->name, "fill-first");
	picker_fini(&p);
}

static void
new_token_is_seen_at_the_next_pick(void **state UNUSED)
{
	struct state_credential_input in = {
		.fixed = { .incarnation = POOL_INCARNATION,
		    .dialects = DIALECT_BIT(DIALECT_CLAUDE),
		    .epoch = POOL_EPOCH },
		.id = "a",
		.secret = "token-2",
		.models = &(struct state_model_input){ POOL_MODEL, "x", 0, 0 },
		.nmodels = 1,
	};
	MDB_txn *txn;

	PUBLISH(abc);
	assert_pick(HOW(.session = "s"), "a", "new");
	assert_pick(HOW(.session = "s"), "a", "hit");
	assert_int_equal(store_write(&state_store, &txn), 0);
	assert_int_equal(state_put_credential(&state_store, txn, &in), 0);
	assert_int_equal(store_commit(txn), 0);
	assert_int_equal(begin(HOW(.session = "s")), PICK_OK);
	assert_string_equal(pick_decision_name(pick.decision), "hit");
	assert_string_equal(
	    state_string(pick.credential, pick.credential->secret), "token-2");
	done();
}

static const struct pool_member retriers[] = {
	{ "a", .weight = 1, .request_retry = 1 },
	{ "b", .weight = 1, .request_retry = -1 },
	{ "c", .weight = 1, .request_retry = 3 },
	{ "d", .weight = 1, .request_retry = 0 },
};

/* Of a round take part those who have so many, in the order of the cursor. */
static void
rounds_are_of_those_who_have_them_left(void **state UNUSED)
{
	static const struct {
		unsigned round;
		const char *order[4];
	} rows[] = {
		{ 0, { "a", "b", "c", "d" } },
		{ 1, { "a", "b", "c", "a" } },
		{ 2, { "b", "c", "b", "c" } },
		{ 3, { "c", "c", "c", "c" } },
	};

	PUBLISH(retriers);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (size_t k = 0; k < 4; k++) {
			assert_int_equal(
			    begin((struct how){
				.round = rows[i].round, .request_retry = 2 }),
			    PICK_OK);
			assert_string_equal(
			    state_string(pick.credential, pick.credential->id),
			    rows[i].order[k]);
			done();
		}
	assert_true(begin((struct how){ .round = 4, .request_retry = 2 }) > 0);
	done();
}

/* A session begins a round with its own credential, if that takes part. */
static void
rounds_keep_the_binding_or_move_it(void **state UNUSED)
{
	PUBLISH(retriers);
	assert_int_equal(begin((struct how){ .session = "s" }), PICK_OK);
	assert_string_equal(
	    state_string(pick.credential, pick.credential->id), "a");
	done();
	assert_int_equal(
	    begin((struct how){ .session = "s", .round = 1 }), PICK_OK);
	assert_int_equal(pick.decision, PICK_DECISION_HIT);
	done();
	assert_int_equal(
	    begin((struct how){ .session = "s", .round = 2 }), PICK_OK);
	assert_int_equal(pick.decision, PICK_DECISION_MOVED);
	assert_string_equal(
	    state_string(pick.credential, pick.credential->id), "c");
	done();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(rounds_are_of_those_who_have_them_left),
		TEST(rounds_keep_the_binding_or_move_it),
		TEST(round_robin_goes_by_id_and_skips_the_barred),
		TEST(word_of_the_whole_credential_bars_its_models),
		TEST(each_dialect_has_its_own_rotation),
		TEST(best_tier_that_has_a_ready_member_serves),
		TEST(tier_without_a_cursor_still_serves),
		TEST(unknown_model_is_told_from_one_without_credentials),
		TEST(refusal_tells_cooling_from_blocked_and_exhausted),
		TEST(excluded_credentials_are_skipped),
		TEST(record_that_forbids_it_is_found_behind_the_route),
		TEST(passed_over_are_told_once_each_and_bounded),
		TEST(fill_first_stays_with_the_first_that_is_ready),
		TEST(weighted_takes_turns_smoothly),
		TEST(weight_of_nothing_serves_only_where_weights_do_not_count),
		TEST(changed_strategy_finds_its_place),
		TEST(session_hash_moves_only_the_sessions_of_who_drops_out),
		TEST(session_keeps_its_credential),
		TEST(bound_pick_does_not_read_the_route),
		TEST(bound_pick_does_not_read_the_bindings),
		TEST(live_binding_outranks_priority),
		TEST(pin_decides_and_moves_no_session),
		TEST(hard_pin_is_refused_and_a_soft_one_falls_back),
		TEST(failed_attempt_moves_the_session_for_all),
		TEST(cooling_credential_loses_its_session_for_good),
		TEST(request_may_wait_for_its_credential),
		TEST(pool_is_back_when_the_first_of_it_is),
		TEST(session_survives_a_time_when_nobody_can_serve),
		TEST(credential_that_cannot_serve_any_more_is_replaced),
		TEST(session_survives_what_happens_to_others),
		TEST(second_turn_inherits_what_the_first_was_bound_to),
		TEST(id_that_comes_along_is_bound_too),
		TEST(second_model_begins_where_the_session_is_served),
		TEST(second_model_does_not_follow_into_a_lower_tier),
		TEST(void_binding_of_another_model_is_no_hint),
		TEST(sub_agent_begins_on_its_parents_credential),
		TEST(affinity_switched_off_ignores_bindings_and_keeps_them),
		TEST(use_extends_the_binding_lazily),
		TEST(unbound_while_the_lock_is_held_parallel_requests_agree),
		TEST(who_is_bound_stays_so_while_the_lock_is_held),
		TEST(killed_holder_is_recovered_within_the_deadline),
		TEST(full_map_serves_unbound_and_agrees),
		TEST(parallel_first_requests_land_on_one_credential),
		TEST(round_robin_is_exact_over_processes),
		TEST(weighted_is_exact_over_processes),
		TEST(new_token_is_seen_at_the_next_pick),
		TEST(settings_come_from_the_routing_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
