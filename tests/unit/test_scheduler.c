/* SPDX-License-Identifier: MIT */
/*
 * Who serves, of whom: the strategies through a picker without sessions, by
 * the sequences of letters that they must give. A member's id is one letter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "common/clock.h"
#include "tests/unit/pool.h"
#include "tests/unit/scratch.h"
#include "worker/select/pick.h"
#include "worker/select/strategy.h"

#define BOOT "11111111-2222-3333-4444-555555555555"

enum { LETTERS_MAX = 256, MANY = 5000 };

static struct scratch scratch;
static struct board *board;
static struct store state_store, bindings_store;
static struct picker picker;
static struct pick pick;
static int64_t now_ms;
static size_t nexcluded;
static uint32_t excluded[8];

static const struct config config = {
	.routing = { .strategy = STRATEGY_ROUND_ROBIN },
};

static int
set_up(void **state UNUSED)
{
	scratch_make(&scratch);
	now_ms = INT64_C(1700000000000);
	nexcluded = 0;
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
	store_close(&state_store, false);
	store_close(&bindings_store, false);
	board_close(board);
	scratch_remove(&scratch);
	return 0;
}

#define PUBLISH(members)                                                       \
	pool_publish(&state_store, board, (members), ARRAY_LEN(members))

static void
use(enum strategy_id strategy)
{
	picker.strategy = strategy_get(strategy);
}

static int
begin(void)
{
	struct pick_ask ask = {
		.model = POOL_MODEL,
		.model_len = strlen(POOL_MODEL),
		.dialect = DIALECT_CLAUDE,
		.dialects = DIALECT_BIT(DIALECT_CLAUDE),
		.excluded = excluded,
		.nexcluded = nexcluded,
		.now_ms = now_ms,
	};

	return pick_begin(&pick, &picker, &ask);
}

static char
letter(void)
{
	char c;

	assert_int_equal(begin(), PICK_OK);
	c = *state_string(pick.credential, pick.credential->id);
	pick_end(&pick);
	return c;
}

static const char *
letters(int count)
{
	static char text[LETTERS_MAX];

	assert_true(count < LETTERS_MAX);
	for (int i = 0; i < count; i++)
		text[i] = letter();
	text[count] = '\0';
	return text;
}

/* Which letters came how often in so many picks: "a50 b30". */
static const char *
shares(int count)
{
	static char text[LETTERS_MAX];
	int counts[26] = { 0 };
	size_t len = 0;

	for (int i = 0; i < count; i++)
		counts[letter() - 'a']++;
	text[0] = '\0';
	for (int i = 0; i < 26; i++) {
		if (counts[i] > 0)
			len += (size_t)snprintf(text + len, sizeof(text) - len,
			    "%s%c%d", len > 0 ? " " : "", 'a' + i, counts[i]);
	}
	return text;
}

static void
bar(uint32_t member, int64_t until_ms)
{
	(void)board_cell_raise(&board->cells[member],
	    (struct board_word){ POOL_INCARNATION, BOARD_COOLING, until_ms });
}

static void
exclude(uint32_t slot)
{
	excluded[nexcluded++] = slot;
}

/* ---- several providers */

/* gemini{a,b}, claude{c} */
static const struct pool_member two_and_one[] = {
	{ .id = "a", .provider = "gemini", .weight = 1 },
	{ .id = "b", .provider = "gemini", .weight = 1 },
	{ .id = "c", .provider = "claude", .weight = 1 },
};

/* p1{a,b} p2{c} p3{d,e,f} */
static const struct pool_member three_providers[] = {
	{ .id = "a", .provider = "p1", .weight = 1 },
	{ .id = "b", .provider = "p1", .weight = 1 },
	{ .id = "c", .provider = "p2", .weight = 1 },
	{ .id = "d", .provider = "p3", .weight = 1 },
	{ .id = "e", .provider = "p3", .weight = 1 },
	{ .id = "f", .provider = "p3", .weight = 1 },
};

static void
providers_take_turns_by_their_ready_members(void **state UNUSED)
{
	PUBLISH(two_and_one);
	assert_string_equal(letters(7), "abcabca");
	PUBLISH(three_providers);
	atomic_store(&board->cursors[DIALECT_CLAUDE], 0);
	for (uint32_t i = 1; i < 4; i++)
		atomic_store(
		    &board->cursors[i * DIALECT_MAX + DIALECT_CLAUDE], 0);
	assert_string_equal(letters(8), "abcdefab");
}

/* An id does not say where its provider stands. */
static void
ids_of_providers_may_interleave(void **state UNUSED)
{
	static const struct pool_member members[] = {
		{ .id = "d", .provider = "p1" },
		{ .id = "b", .provider = "p2" },
		{ .id = "a", .provider = "p1" },
		{ .id = "c", .provider = "p2" },
	};

	PUBLISH(members);
	assert_string_equal(letters(5), "adbca");
}

static void
failover_goes_on_at_the_next_provider(void **state UNUSED)
{
	PUBLISH(two_and_one);
	assert_int_equal(letter(), 'a');
	exclude(0);
	assert_int_equal(letter(), 'c');
	exclude(2);
	assert_int_equal(letter(), 'b');
	exclude(1);
	assert_int_equal(begin(), PICK_EXHAUSTED);
	pick_end(&pick);
	nexcluded = 0;
	assert_int_equal(letter(), 'a');
}

static void
benched_members_shorten_the_segment_of_their_provider(void **state UNUSED)
{
	PUBLISH(three_providers);
	bar(3, now_ms + 1000);
	bar(4, now_ms + 2000);
	assert_string_equal(letters(8), "abcfabcf");
	now_ms += 1000;
	/* Five places now, and p3 goes on after f. */
	assert_string_equal(shares(10), "a2 b2 c2 d2 f2");
	bar(2, now_ms + 5000);
	assert_string_equal(shares(8), "a2 b2 d2 f2");
	now_ms += 10000;
	assert_string_equal(shares(12), "a2 b2 c2 d2 e2 f2");
}

static void
only_the_best_tier_of_all_providers_competes(void **state UNUSED)
{
	static const struct pool_member members[] = {
		{ .id = "a", .provider = "p1", .priority = 4 },
		{ .id = "b", .provider = "p2", .priority = 7 },
		{ .id = "c", .provider = "p3", .priority = 7 },
	};

	PUBLISH(members);
	assert_string_equal(letters(4), "bcbc");
	bar(1, now_ms + 1000);
	assert_string_equal(letters(2), "cc");
	bar(2, now_ms + 1000);
	assert_string_equal(letters(2), "aa");
}

static void
fill_first_takes_the_first_provider_that_is_ready(void **state UNUSED)
{
	static const struct pool_member members[] = {
		{ .id = "c", .provider = "p1" },
		{ .id = "d", .provider = "p1" },
		{ .id = "a", .provider = "p2" },
	};

	use(STRATEGY_FILL_FIRST);
	PUBLISH(members);
	assert_string_equal(letters(2), "cc");
	bar(0, now_ms + 1000);
	assert_string_equal(letters(2), "dd");
	bar(1, now_ms + 1000);
	assert_string_equal(letters(2), "aa");
}

static void
weights_count_over_all_providers(void **state UNUSED)
{
	static const struct pool_member members[] = {
		{ .id = "b", .provider = "p1", .weight = 3 },
		{ .id = "c", .provider = "p2", .weight = 2 },
		{ .id = "a", .provider = "p2", .weight = 5 },
	};

	use(STRATEGY_WEIGHTED);
	PUBLISH(members);
	assert_string_equal(letters(10), "abcaabacba");
	assert_string_equal(shares(100), "a50 b30 c20");
}

/* By id then, not by provider. */
static void
equal_weights_of_several_providers_go_by_id(void **state UNUSED)
{
	static const struct pool_member members[] = {
		{ .id = "b", .provider = "p1", .weight = 7 },
		{ .id = "d", .provider = "p1", .weight = 7 },
		{ .id = "a", .provider = "p2", .weight = 7 },
		{ .id = "c", .provider = "p2", .weight = 7 },
	};

	use(STRATEGY_WEIGHTED);
	PUBLISH(members);
	assert_string_equal(letters(5), "abcda");
}

/* ---- weights */

struct weights {
	int32_t of[4]; /* of a, b, c, d; -1: there is no such member */
};

static void
publish_weights(struct weights w)
{
	struct pool_member members[] = {
		{ .id = "a", .weight = w.of[0], .absent = w.of[0] < 0 },
		{ .id = "b", .weight = w.of[1], .absent = w.of[1] < 0 },
		{ .id = "c", .weight = w.of[2], .absent = w.of[2] < 0 },
		{ .id = "d", .weight = w.of[3], .absent = w.of[3] < 0 },
	};

	PUBLISH(members);
}

static void
smooth_sequences_are_those_of_the_definition(void **state UNUSED)
{
	static const struct {
		struct weights weights;
		const char *sequence;
	} rows[] = {
		{ { { 5, 3, 2, -1 } }, "abcaabacba" },
		{ { { 5, 1, -1, -1 } }, "aaabaa" },
		{ { { -1, 3, 2, -1 } }, "bcbcb" },
		{ { { 1, 1, 1, -1 } }, "abc" },
	};

	use(STRATEGY_WEIGHTED);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		atomic_store(&board->cursors[DIALECT_CLAUDE], 0);
		publish_weights(rows[i].weights);
		assert_string_equal(
		    letters((int)strlen(rows[i].sequence)), rows[i].sequence);
	}
}

static void
shares_are_those_of_the_weights(void **state UNUSED)
{
	use(STRATEGY_WEIGHTED);
	publish_weights((struct weights){ { 5, 3, 2, 0 } });
	assert_string_equal(shares(100), "a50 b30 c20");
	publish_weights((struct weights){ { 1, 1, 1, -1 } });
	assert_string_equal(shares(99), "a33 b33 c33");
	publish_weights((struct weights){ { -1, 3, 2, -1 } });
	assert_string_equal(shares(100), "b60 c40");
}

/* Nothing of the old sequence is caught up with, wherever it was left. */
static void
changed_weights_count_at_once(void **state UNUSED)
{
	use(STRATEGY_WEIGHTED);
	for (int left = 0; left < 7; left++) {
		publish_weights((struct weights){ { 1000000, 1, -1, -1 } });
		(void)shares(1000 + left);
		publish_weights((struct weights){ { 1, 1, -1, -1 } });
		assert_string_equal(shares(20), "a10 b10");
		publish_weights((struct weights){ { 3, 7, -1, -1 } });
		assert_string_equal(shares(10), "a3 b7");
		(void)shares(left);
		publish_weights((struct weights){ { 7, 3, -1, -1 } });
		assert_string_equal(shares(10), "a7 b3");
	}
}

static void
exclusion_does_not_disturb_the_sequence(void **state UNUSED)
{
	use(STRATEGY_WEIGHTED);
	publish_weights((struct weights){ { 5, 3, 2, -1 } });
	assert_string_equal(letters(3), "abc");
	exclude(2);
	assert_string_equal(letters(1), "a");
	nexcluded = 0;
	assert_string_equal(letters(6), "abacba");
	assert_string_equal(letters(10), "abcaabacba");
}

static void
recovered_credential_has_saved_up_no_turns(void **state UNUSED)
{
	use(STRATEGY_WEIGHTED);
	publish_weights((struct weights){ { 5, 1, -1, -1 } });
	bar(0, now_ms + 1000);
	assert_string_equal(shares(30), "b30");
	now_ms += 1000;
	assert_string_equal(shares(60), "a50 b10");
}

static void
tier_of_nothing_but_weight_zero_is_passed_over(void **state UNUSED)
{
	static const struct pool_member members[] = {
		{ .id = "a", .priority = 9, .weight = 0 },
		{ .id = "b", .priority = 9, .weight = 0 },
		{ .id = "c", .weight = 1 },
	};

	use(STRATEGY_WEIGHTED);
	PUBLISH(members);
	assert_string_equal(letters(2), "cc");
	bar(2, now_ms + 1000);
	assert_int_equal(begin(), PICK_COOLING);
	pick_end(&pick);
}

/* ---- membership and time */

static void
rotation_goes_on_when_members_come_and_go(void **state UNUSED)
{
	struct pool_member members[] = { { .id = "a" }, { .id = "b" },
		{ .id = "c" }, { .id = "d" } };

	members[3].absent = true;
	PUBLISH(members);
	assert_string_equal(letters(2), "ab");
	members[3].absent = false;
	PUBLISH(members);
	assert_string_equal(letters(3), "cda");
	members[0].absent = true;
	PUBLISH(members);
	/* Place 1 of b, c, d. */
	assert_string_equal(letters(3), "cdb");
}

static void
expired_cooldown_is_ready_at_the_very_pick(void **state UNUSED)
{
	use(STRATEGY_FILL_FIRST);
	publish_weights((struct weights){ { 1, 1, -1, -1 } });
	bar(0, now_ms + 1000);
	now_ms += 999;
	assert_int_equal(letter(), 'b');
	now_ms += 1;
	assert_int_equal(letter(), 'a');
}

/* ---- very many */

/* Slots and ids in one order; every provider has the same number. */
static void
publish_many(const char *const *providers, size_t nproviders)
{
	static struct pool_member members[MANY];
	static char ids[MANY][8];

	for (size_t i = 0; i < MANY; i++) {
		(void)snprintf(ids[i], sizeof(ids[i]), "%05zu", i);
		members[i] = (struct pool_member){
			.id = ids[i],
			.provider = providers[i * nproviders / MANY],
		};
	}
	PUBLISH(members);
}

static uint32_t
pick_slot(void)
{
	uint32_t slot;

	assert_int_equal(begin(), PICK_OK);
	slot = pick.credential->slot;
	pick_end(&pick);
	return slot;
}

static void
very_many_benched_members_are_stepped_over(void **state UNUSED)
{
	static const char *const providers[] = { "p1" };

	publish_many(providers, 1);
	for (uint32_t i = 0; i < MANY; i++) {
		if (i != 4242 && i != 17)
			bar(i, now_ms + 1000 + i);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pick_slot(), 17);
		assert_int_equal(pick_slot(), 4242);
	}
	use(STRATEGY_FILL_FIRST);
	assert_int_equal(pick_slot(), 17);
	/* The view is a proposal: a word raised since is seen. */
	bar(17, now_ms + 9999);
	assert_int_equal(pick_slot(), 4242);
	bar(4242, now_ms + 9999);
	assert_int_equal(begin(), PICK_COOLING);
	assert_int_equal(pick.until_ms, now_ms + 1000);
	pick_end(&pick);
	/* And a bench that ends, to the millisecond. */
	now_ms += 1000;
	assert_int_equal(pick_slot(), 0);
	/* One that was lowered is found before anybody is refused. */
	bar(0, now_ms + 99999);
	board_cell_reset(&board->cells[4000], POOL_INCARNATION);
	assert_int_equal(pick_slot(), 4000);
}

static void
segments_of_very_many_are_exact(void **state UNUSED)
{
	static const char *const providers[] = { "p1", "p2" };
	static unsigned taken[MANY];
	unsigned of_first = 0;

	publish_many(providers, 2);
	for (uint32_t i = 0; i < MANY / 2; i += 2)
		bar(i, now_ms + 60000);
	memset(taken, 0, sizeof(taken));
	/* A quarter of all is benched, all of it of the first provider. */
	for (size_t i = 0; i < MANY / 4 * 3; i++)
		taken[pick_slot()]++;
	for (uint32_t i = 0; i < MANY; i++) {
		bool benched = i < MANY / 2 && i % 2 == 0;

		assert_int_equal(taken[i], benched ? 0 : 1);
		of_first += i < MANY / 2 ? taken[i] : 0;
	}
	assert_int_equal(of_first, MANY / 4);
	/* An exclusion is one place less, found by id in a large tier. */
	exclude(1);
	assert_int_equal(pick_slot(), 3);
}

/* ---- a strategy of one's own */

/* The last that passes; counts how often it was asked. */
static const struct state_member *
pick_last(const struct strategy *self, const struct strategy_ask *ask)
{
	const struct state_member *members =
	    state_tier_members(ask->route, ask->tier);

	assert_string_equal(self->name, "last");
	for (uint32_t i = ask->tier->nmembers; i-- > 0;) {
		if (ask->passes(ask->ctx, &members[i]))
			return &members[i];
	}
	return NULL;
}

static void
strategy_is_one_row(void **state UNUSED)
{
	static const struct strategy last = { .name = "last",
		.pick = pick_last };

	publish_weights((struct weights){ { 0, 1, 1, 1 } });
	picker.strategy = &last;
	assert_string_equal(letters(2), "dd");
	bar(3, now_ms + 1000);
	assert_string_equal(letters(2), "cc");
	exclude(1);
	exclude(2);
	/* Weights do not count unless its row says so. */
	assert_string_equal(letters(1), "a");
}

static void
each_strategy_of_the_configuration_has_its_row(void **state UNUSED)
{
	static const char *const names[STRATEGY_MAX] = {
		[STRATEGY_ROUND_ROBIN] = "round-robin",
		[STRATEGY_WEIGHTED] = "weighted-round-robin",
		[STRATEGY_FILL_FIRST] = "fill-first",
		[STRATEGY_SESSION_HASH] = "session-hash",
	};

	for (int i = 0; i < STRATEGY_MAX; i++) {
		const struct strategy *s = strategy_get((enum strategy_id)i);

		assert_string_equal(s->name, names[i]);
		assert_int_equal(s->by_weight, i == STRATEGY_WEIGHTED);
	}
}

/* ---- many processes */

struct crew {
	struct gate gate;
	int picks;
	int counts; /* descriptor: where the counts go */
};

static int
work(void *ctx)
{
	const struct strategy *strategy = picker.strategy;
	struct crew *crew = ctx;
	uint32_t counts[26] = { 0 };
	struct store stores[2];
	struct board *mine;

	if (store_open_worker(&stores[0], STORE_STATE, scratch.dir) != 0 ||
	    store_open_worker(&stores[1], STORE_BINDINGS, scratch.dir) != 0 ||
	    board_open_worker(scratch.dir, &mine) != 0)
		return 1;
	picker_init(&picker, &stores[0], &stores[1], mine, &config);
	picker.strategy = strategy;
	gate_tell(&crew->gate);
	gate_pass(&crew->gate);
	for (int i = 0; i < crew->picks; i++)
		counts[letter() - 'a']++;
	return write(crew->counts, counts, sizeof(counts)) == sizeof(counts)
		   ? 0
		   : 2;
}

/* Eight processes at once; what all of them took, as shares() shows it. */
static const char *
crew_shares(int picks_each)
{
	enum { SIZE = 8 };
	static char text[LETTERS_MAX];
	struct crew crew = { .picks = picks_each };
	uint32_t sum[26] = { 0 }, one[26];
	size_t len = 0;
	pid_t pids[SIZE];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	crew.counts = fds[1];
	gate_make(&crew.gate);
	for (int i = 0; i < SIZE; i++)
		pids[i] = child_start(work, &crew);
	for (int i = 0; i < SIZE; i++)
		gate_listen(&crew.gate);
	gate_open(&crew.gate);
	for (int i = 0; i < SIZE; i++)
		assert_int_equal(child_wait(pids[i]), 0);
	for (int i = 0; i < SIZE; i++) {
		assert_int_equal(read(fds[0], one, sizeof(one)), sizeof(one));
		for (size_t k = 0; k < ARRAY_LEN(sum); k++)
			sum[k] += one[k];
	}
	for (size_t i = 0; i < ARRAY_LEN(sum); i++) {
		if (sum[i] > 0)
			len += (size_t)snprintf(text + len, sizeof(text) - len,
			    "%s%c%u", len > 0 ? " " : "", 'a' + (int)i, sum[i]);
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
	gate_remove(&crew.gate);
	return text;
}

static void
eight_processes_share_exactly(void **state UNUSED)
{
	PUBLISH(three_providers);
	assert_string_equal(
	    crew_shares(1500), "a2000 b2000 c2000 d2000 e2000 f2000");
	bar(0, now_ms + 60000);
	assert_string_equal(crew_shares(1500), "b2400 c2400 d2400 e2400 f2400");
	use(STRATEGY_WEIGHTED);
	publish_weights((struct weights){ { 5, 3, 2, 0 } });
	assert_string_equal(crew_shares(1250), "a5000 b3000 c2000");
	use(STRATEGY_ROUND_ROBIN);
	publish_weights((struct weights){ { 1, 1, 1, 1 } });
	assert_string_equal(crew_shares(1500), "a3000 b3000 c3000 d3000");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(providers_take_turns_by_their_ready_members),
		TEST(ids_of_providers_may_interleave),
		TEST(failover_goes_on_at_the_next_provider),
		TEST(benched_members_shorten_the_segment_of_their_provider),
		TEST(only_the_best_tier_of_all_providers_competes),
		TEST(fill_first_takes_the_first_provider_that_is_ready),
		TEST(weights_count_over_all_providers),
		TEST(equal_weights_of_several_providers_go_by_id),
		TEST(smooth_sequences_are_those_of_the_definition),
		TEST(shares_are_those_of_the_weights),
		TEST(changed_weights_count_at_once),
		TEST(exclusion_does_not_disturb_the_sequence),
		TEST(recovered_credential_has_saved_up_no_turns),
		TEST(tier_of_nothing_but_weight_zero_is_passed_over),
		TEST(rotation_goes_on_when_members_come_and_go),
		TEST(expired_cooldown_is_ready_at_the_very_pick),
		TEST(very_many_benched_members_are_stepped_over),
		TEST(segments_of_very_many_are_exact),
		TEST(strategy_is_one_row),
		TEST(each_strategy_of_the_configuration_has_its_row),
		TEST(eight_processes_share_exactly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
