/* SPDX-License-Identifier: MIT */
#include "common/board.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/attr.h"
#include "common/clock.h"
#include "tests/unit/scratch.h"

#define BOOT "11111111-2222-3333-4444-555555555555"

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

static void
reopen(const char *boot_id, int expected)
{
	board_close(board);
	assert_int_equal(
	    board_open_master(scratch.dir, boot_id, &board), expected);
}

static const char *
board_file(void)
{
	static char path[128];

	(void)snprintf(path, sizeof(path), "%s/board", scratch.dir);
	return path;
}

static void
board_is_kept_by_a_new_master_of_the_same_boot(void **state UNUSED)
{
	atomic_store(&board->incarnation, 7);
	atomic_store(&board->cursors[3], 42);
	reopen(BOOT, BOARD_KEPT);
	assert_int_equal(atomic_load(&board->incarnation), 7);
	assert_int_equal(atomic_load(&board->cursors[3]), 42);
}

static void
board_of_another_boot_is_made_anew(void **state UNUSED)
{
	struct board *worker;

	assert_int_equal(board_open_worker(scratch.dir, &worker), 0);
	atomic_store(&board->incarnation, 7);
	reopen("other-boot", BOARD_MADE);
	assert_int_equal(atomic_load(&board->incarnation), 0);
	/* Who has the old one mapped keeps it. */
	assert_int_equal(atomic_load(&worker->incarnation), 7);
	board_close(worker);
}

static void
board_of_another_layout_or_size_is_made_anew(void **state UNUSED)
{
	struct board *worker;

	board->layout++;
	assert_int_equal(board_open_worker(scratch.dir, &worker), -ESTALE);
	reopen(BOOT, BOARD_MADE);
	assert_int_equal(truncate(board_file(), 100), 0);
	assert_int_equal(board_open_worker(scratch.dir, &worker), -ESTALE);
	reopen(BOOT, BOARD_MADE);
	assert_int_equal(unlink(board_file()), 0);
	assert_int_equal(board_open_worker(scratch.dir, &worker), -ENOENT);
	reopen(BOOT, BOARD_MADE);
	assert_int_equal(board_open_worker(scratch.dir, &worker), 0);
	board_close(worker);
}

static void
one_process_is_master_of_one_board(void **state UNUSED)
{
	struct board *second;

	assert_int_equal(board_open_master(scratch.dir, BOOT, &second), -EBUSY);
}

static void
file_is_private_and_sparse_until_parts_are_claimed(void **state UNUSED)
{
	struct stat st;
	blkcnt_t before;

	assert_int_equal(stat(board_file(), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, sizeof(struct board));
	before = st.st_blocks;
	assert_true(before * 512 >= (blkcnt_t)offsetof(struct board, cells));
	assert_true(before * 512 < (blkcnt_t)sizeof(struct board) / 8);

	assert_int_equal(board_cells_claim(board, 5000), 0);
	assert_int_equal(stat(board_file(), &st), 0);
	assert_true((st.st_blocks - before) * 512 >=
		    (blkcnt_t)(5000 * sizeof(struct board_cell)));
	before = st.st_blocks;
	assert_int_equal(board_cells_claim(board, 4000), 0);
	assert_int_equal(stat(board_file(), &st), 0);
	assert_int_equal(st.st_blocks, before);

	assert_int_equal(board_slot_claim(board, 3), 0);
	assert_int_equal(stat(board_file(), &st), 0);
	assert_true((st.st_blocks - before) * 512 >=
		    (blkcnt_t)sizeof(struct board_slot));
	assert_int_equal(atomic_load(&board->slots_used), 4);

	assert_int_equal(board_slot_claim(board, BOARD_SLOTS), -EINVAL);
	assert_int_equal(board_cells_claim(board, BOARD_CELLS + 1), -EINVAL);
}

static const struct {
	struct board_word word;
	struct board_word back;
} words[] = {
	{ { 0, BOARD_READY, 0 }, { 0, BOARD_READY, 0 } },
	{ { 65535, BOARD_BLOCKED, 1 }, { 65535, BOARD_BLOCKED, 1 } },
	{ { 1, BOARD_COOLING, INT64_C(1800000000000) },
	    { 1, BOARD_COOLING, INT64_C(1800000000000) } },
	{ { 1, BOARD_COOLING, INT64_MAX },
	    { 1, BOARD_COOLING, (INT64_C(1) << 46) - 1 } },
	{ { 1, BOARD_COOLING, -5 }, { 1, BOARD_COOLING, 0 } },
};

static void
words_survive_packing(void **state UNUSED)
{
	struct board_word back;

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		back = board_word_unpack(board_word_pack(words[i].word));
		assert_int_equal(back.incarnation, words[i].back.incarnation);
		assert_int_equal(back.kind, words[i].back.kind);
		assert_int_equal(back.until_ms, words[i].back.until_ms);
	}
}

static void
notes_survive_packing(void **state UNUSED)
{
	struct board_note note = { 11, COOL_QUOTA, 429 }, back;

	back = board_note_unpack(board_note_pack(note));
	assert_int_equal(back.level, 11);
	assert_int_equal(back.reason, COOL_QUOTA);
	assert_int_equal(back.status, 429);
}

static struct board_word
cooling(uint16_t incarnation, int64_t until_ms)
{
	return (struct board_word){ incarnation, BOARD_COOLING, until_ms };
}

static struct board_word
blocked(uint16_t incarnation, int64_t until_ms)
{
	return (struct board_word){ incarnation, BOARD_BLOCKED, until_ms };
}

static void
raising_is_a_maximum_within_one_incarnation(void **state UNUSED)
{
	struct board_cell cell = { 0 };

	board_cell_reset(&cell, 5);
	assert_true(board_cell_raise(&cell, cooling(5, 1000)));
	assert_true(board_cell_raise(&cell, cooling(5, 1000)));
	assert_false(board_cell_raise(&cell, cooling(5, 999)));
	assert_true(board_cell_raise(&cell, blocked(5, 2000)));
	assert_false(board_cell_raise(&cell, cooling(5, 1500)));
	assert_int_equal(board_cell_read(&cell, 5).until_ms, 2000);
	assert_int_equal(board_cell_read(&cell, 5).kind, BOARD_BLOCKED);

	/* A late result of a predecessor, or of a successor. */
	assert_false(board_cell_raise(&cell, blocked(4, 9000)));
	assert_false(board_cell_raise(&cell, blocked(6, 9000)));
	assert_int_equal(board_cell_read(&cell, 5).until_ms, 2000);
}

static void
word_of_another_incarnation_bars_nothing(void **state UNUSED)
{
	struct board_cell cell = { 0 };

	board_cell_reset(&cell, 5);
	(void)board_cell_raise(&cell, blocked(5, 2000));
	assert_true(board_cell_barred(&cell, 5, 1000));
	assert_false(board_cell_barred(&cell, 6, 1000));
	assert_int_equal(board_cell_read(&cell, 6).kind, BOARD_READY);
	board_cell_reset(&cell, 6);
	assert_false(board_cell_barred(&cell, 6, 1000));
}

static void
deadline_is_over_when_it_is_reached(void **state UNUSED)
{
	struct board_cell cell = { 0 };

	(void)board_cell_raise(&cell, cooling(0, 2000));
	assert_true(board_cell_barred(&cell, 0, 1999));
	assert_false(board_cell_barred(&cell, 0, 2000));
}

enum { MOST_MS = 24 * 3600 * 1000 };

enum { RAISERS = 4, RAISES = 20000 };

struct raiser {
	int number;
	struct gate *gate;
};

static int
raise_many_times(void *ctx)
{
	struct raiser *r = ctx;
	struct board_cell *cell = &board->credentials[1].cell;

	gate_pass(r->gate);
	for (int i = 0; i < RAISES; i++) {
		/* Everyone's deadlines interleave with everyone else's. */
		(void)board_cell_raise(
		    cell, cooling(9, 1 + i * RAISERS + r->number));
		(void)board_cell_raise(cell, cooling(8, INT64_C(1) << 40));
	}
	return 0;
}

static void
processes_that_raise_at_once_leave_the_latest_deadline(void **state UNUSED)
{
	struct raiser raisers[RAISERS];
	pid_t pids[RAISERS];
	struct gate gate;

	gate_make(&gate);
	board_cell_reset(&board->credentials[1].cell, 9);
	for (int i = 0; i < RAISERS; i++) {
		raisers[i] = (struct raiser){ i, &gate };
		pids[i] = child_start(raise_many_times, &raisers[i]);
	}
	gate_open(&gate);
	for (int i = 0; i < RAISERS; i++)
		assert_int_equal(child_wait(pids[i]), 0);
	gate_remove(&gate);
	assert_int_equal(
	    board_cell_read(&board->credentials[1].cell, 9).until_ms,
	    RAISERS * RAISES);
}

static const int ladder_s[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024,
	1800, 1800, 1800 };

/* A challenge: ten seconds at least, and never beyond what is allowed. */
static void
ladder_keeps_within_its_bounds(void **state UNUSED)
{
	static const int seconds[] = { 10, 10, 10, 10, 16, 20, 20 };
	struct board_cell cell = { 0 };
	struct board_note note = { 0, COOL_CHALLENGE, 403 };
	int64_t now_ms = 1000000, until_ms;

	board_cell_reset(&cell, 0);
	for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
		until_ms =
		    board_cell_climb(&cell, 0, now_ms, 10000, 20000, &note);
		assert_int_equal(until_ms - now_ms, seconds[i] * 1000);
		assert_int_equal(note.level, i + 1);
		now_ms = until_ms;
	}
}

/* A window that is open is made longer, but no second step is taken. */
static void
open_window_is_stretched_without_a_step(void **state UNUSED)
{
	struct board_cell cell = { 0 };
	struct board_note note = { 0, COOL_QUOTA, 429 };

	board_cell_reset(&cell, 0);
	assert_int_equal(
	    board_cell_climb(&cell, 0, 5000, 0, MOST_MS, &note), 6000);
	assert_int_equal(
	    board_cell_climb(&cell, 0, 5500, 10000, MOST_MS, &note), 15500);
	assert_int_equal(note.level, 1);
	assert_int_equal(
	    board_cell_climb(&cell, 0, 6000, 1000, MOST_MS, &note), 15500);
}

static void
ladder_doubles_up_to_its_plateau(void **state UNUSED)
{
	struct board_cell cell = { 0 };
	struct board_note note = { 0, COOL_QUOTA, 429 };
	int64_t now_ms = 1000000, until_ms;

	board_cell_reset(&cell, 3);
	for (size_t i = 0; i < ARRAY_LEN(ladder_s); i++) {
		until_ms =
		    board_cell_climb(&cell, 3, now_ms, 0, MOST_MS, &note);
		assert_int_equal(until_ms - now_ms, ladder_s[i] * 1000);
		assert_int_equal(note.level, i < 11 ? i + 1 : 11);
		assert_int_equal(
		    board_note_unpack(atomic_load(&cell.note)).status, 429);
		assert_int_equal(board_cell_read(&cell, 3).kind, BOARD_COOLING);
		now_ms = until_ms; /* exactly then the window is over */
	}
}

static void
failures_of_one_window_climb_once(void **state UNUSED)
{
	struct board_cell cell = { 0 };
	struct board_note note = { 0, COOL_QUOTA, 429 };

	assert_int_equal(
	    board_cell_climb(&cell, 0, 10000, 0, MOST_MS, &note), 11000);
	for (int i = 0; i < 12; i++) {
		assert_int_equal(
		    board_cell_climb(&cell, 0, 10000 + i, 0, MOST_MS, &note),
		    11000);
		assert_int_equal(note.level, 1);
	}
	assert_int_equal(
	    board_cell_climb(&cell, 0, 11000, 0, MOST_MS, &note), 13000);
}

static void
ladder_reaches_beyond_a_shorter_block_only(void **state UNUSED)
{
	struct board_cell cell = { 0 };
	struct board_note note = { 0, COOL_QUOTA, 429 };

	(void)board_cell_raise(&cell, blocked(0, 60000));
	assert_int_equal(
	    board_cell_climb(&cell, 0, 10000, 0, MOST_MS, &note), 60000);
	assert_int_equal(note.level, 0);
	assert_int_equal(board_cell_read(&cell, 0).kind, BOARD_BLOCKED);
	assert_int_equal(
	    board_cell_climb(&cell, 0, 59500, 0, MOST_MS, &note), 60500);
	assert_int_equal(note.level, 1);
	assert_int_equal(board_cell_read(&cell, 0).kind, BOARD_COOLING);
}

static void
climb_of_a_replaced_credential_changes_nothing(void **state UNUSED)
{
	struct board_cell cell = { 0 };
	struct board_note note = { 0, COOL_QUOTA, 429 };

	board_cell_reset(&cell, 2);
	assert_int_equal(
	    board_cell_climb(&cell, 1, 5000, 0, MOST_MS, &note), 5000);
	assert_false(board_cell_barred(&cell, 2, 0));
	assert_int_equal(atomic_load(&cell.note), 0);
}

static int
climb_once(void *ctx)
{
	struct board_note note = { 0, COOL_QUOTA, 429 };

	gate_pass(ctx);
	return board_cell_climb(
		   &board->cells[0], 0, 10000, 0, MOST_MS, &note) == 11000
		   ? 0
		   : 1;
}

static void
processes_that_fail_at_once_climb_once(void **state UNUSED)
{
	pid_t pids[8];
	struct gate gate;

	gate_make(&gate);
	for (size_t i = 0; i < ARRAY_LEN(pids); i++)
		pids[i] = child_start(climb_once, &gate);
	gate_open(&gate);
	for (size_t i = 0; i < ARRAY_LEN(pids); i++)
		assert_int_equal(child_wait(pids[i]), 0);
	gate_remove(&gate);
	assert_int_equal(
	    board_note_unpack(atomic_load(&board->cells[0].note)).level, 1);
}

static void
cursor_moves_only_from_what_was_read(void **state UNUSED)
{
	uint64_t seen = board_cursor_read(board, 17);

	assert_int_equal(seen, 0);
	assert_true(board_cursor_move(board, 17, seen, 1));
	assert_false(board_cursor_move(board, 17, seen, 1));
	assert_int_equal(board_cursor_read(board, 17), 1);
}

static void
bodies_are_bounded_over_all_slots_and_given_back(void **state UNUSED)
{
	struct board_slot *a = &board->slots[0], *b = &board->slots[1];

	assert_int_equal(board_slot_claim(board, 1), 0);
	assert_true(board_bodies_take(board, a, 60, 100));
	assert_false(board_bodies_take(board, b, 41, 100));
	assert_int_equal(atomic_load(&b->bodies), 0);
	assert_true(board_bodies_take(board, b, 40, 100));
	assert_false(board_bodies_take(board, a, 1, 100));
	assert_false(board_bodies_take(board, a, UINT64_MAX, 100));
	board_bodies_give(board, a, 60);
	assert_true(board_bodies_take(board, b, 60, 100));
	board_slot_reap(board, b);
	assert_int_equal(atomic_load(&board->bodies), 0);
	assert_true(board_bodies_take(board, a, 100, 100));
}

static void
attempts_run_until_they_end_or_are_reaped(void **state UNUSED)
{
	struct board_slot *slot = &board->slots[2];
	struct board_attempt *a;
	int index, last = -1;

	assert_int_equal(board_slot_claim(board, 2), 0);
	index = board_attempt_take(slot);
	assert_true(index >= 0);
	a = &slot->attempts[index];
	assert_int_equal(atomic_load(&a->state), ATTEMPT_FREE);
	a->credential = 5;
	board_attempt_begin(slot, index);
	assert_int_equal(atomic_load(&a->state), ATTEMPT_RUNNING);
	assert_in_range(a->start_ms, clock_now_ms() - 60000, clock_now_ms());
	board_attempt_record(slot, index, 77);
	assert_int_equal(atomic_load(&a->state), ATTEMPT_RECORDING);
	assert_int_equal(a->record_s, 77);
	board_attempt_end(slot, index);
	assert_int_equal(board_attempt_take(slot), index);
	assert_int_equal(a->credential, 0);
	board_attempt_end(slot, index);
	assert_int_equal(
	    atomic_load(&slot->attempts[index].state), ATTEMPT_FREE);

	for (int i = 0; i < BOARD_ATTEMPTS; i++) {
		last = board_attempt_take(slot);
		assert_true(last >= 0);
		board_attempt_begin(slot, last);
	}
	assert_int_equal(board_attempt_take(slot), -1);
	board_attempt_begin(slot, -1);
	board_attempt_record(slot, -1, 0);
	board_attempt_end(slot, -1);
	board_attempt_end(slot, last);
	assert_int_equal(board_attempt_take(slot), last);

	atomic_store(&slot->state, BOARD_SLOT_SERVING);
	board_slot_reap(board, slot);
	assert_int_equal(atomic_load(&slot->state), BOARD_SLOT_FREE);
	assert_int_equal(
	    atomic_load(&slot->attempts[last].state), ATTEMPT_FREE);
	assert_true(board_attempt_take(slot) >= 0);
}

static void
counters_of_the_dead_are_kept(void **state UNUSED)
{
	struct board_counters sum;

	assert_int_equal(board_slot_claim(board, 0), 0);
	assert_int_equal(board_slot_claim(board, 1), 0);
	atomic_store(&board->slots[0].counters.requests, 10);
	atomic_store(&board->slots[1].counters.requests, 5);
	atomic_store(&board->slots[1].counters.refused, 3);
	board_counters_sum(board, &sum);
	assert_int_equal(atomic_load(&sum.requests), 15);

	board_slot_reap(board, &board->slots[1]);
	board_counters_sum(board, &sum);
	assert_int_equal(atomic_load(&sum.requests), 15);
	assert_int_equal(atomic_load(&sum.refused), 3);
	assert_int_equal(atomic_load(&board->slots[1].counters.requests), 0);
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
lock_of_a_killed_holder_is_recovered(void **state UNUSED)
{
	struct gate gate;
	int32_t holder;
	pid_t pid;

	gate_make(&gate);
	for (int i = 0; i < 20; i++) {
		pid = child_start(hold_the_lock, &gate);
		gate_listen(&gate);
		assert_true(board_bind_held_ms(board, &holder) >= 0);
		assert_int_equal(holder, pid);
		child_kill(pid);
		assert_int_equal(board_bind_lock(board, 3), 0);
		(void)board_bind_held_ms(board, &holder);
		assert_int_equal(holder, getpid());
		board_bind_unlock(board);
		assert_int_equal(board_bind_held_ms(board, &holder), 0);
		assert_int_equal(holder, 0);
	}
	gate_remove(&gate);
}

static void
stopped_holder_costs_one_deadline_and_then_nothing(void **state UNUSED)
{
	int64_t start_us, first_us, rest_us;
	struct gate gate;
	pid_t pid;

	gate_make(&gate);
	pid = child_start(hold_the_lock, &gate);
	gate_listen(&gate);
	child_stop(pid);
	assert_int_equal(board_bind_lock(board, 0), BOARD_LOCK_BUSY);

	start_us = clock_mono_us();
	assert_int_equal(board_bind_lock(board, 30), BOARD_LOCK_BUSY);
	first_us = clock_mono_us() - start_us;
	assert_true(first_us >= 30000);

	/* 100 more would be 3 s of waiting; resting, they only try. */
	start_us = clock_mono_us();
	for (int i = 0; i < 100; i++)
		assert_int_equal(board_bind_lock(board, 30), BOARD_LOCK_BUSY);
	rest_us = clock_mono_us() - start_us;
	assert_true(rest_us < 1000000);

	child_kill(pid);
	assert_int_equal(board_bind_lock(board, 30), 0);
	board_bind_unlock(board);
	gate_remove(&gate);
}

static void
every_reason_has_a_name(void **state UNUSED)
{
	for (uint8_t i = 0; i < COOL_MAX; i++)
		assert_non_null(board_reason_name(i));
	assert_string_equal(board_reason_name(COOL_QUOTA), "quota");
	assert_string_equal(board_reason_name(COOL_MAX), "unknown");
	assert_string_equal(board_reason_name(255), "unknown");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* What was served unbound is known to whoever binds it. */
static void
marks_are_seen_until_they_end(void **state UNUSED)
{
	uint64_t session = UINT64_C(0x123456789abcdef0);
	uint64_t other = session ^ UINT64_C(1) << 63; /* at the same place */
	uint32_t slot;

	assert_false(board_session_marked(board, session, 1000, &slot));
	board_session_served(board, session, 7);
	board_session_mark(board, session, 5000);
	assert_true(board_session_marked(board, session, 1000, &slot));
	assert_int_equal(slot, BOARD_NONE);
	/* The first one who says so has served it. */
	board_session_served(board, session, 7);
	board_session_served(board, session, 8);
	board_session_mark(board, session, 6000);
	assert_true(board_session_marked(board, session, 5999, &slot));
	assert_int_equal(slot, 7);
	assert_false(board_session_marked(board, session, 6000, &slot));

	assert_false(board_session_marked(board, other, 1000, &slot));
	board_session_mark(board, other, 5000);
	assert_true(board_session_marked(board, other, 1000, &slot));
	assert_int_equal(slot, BOARD_NONE);
	assert_false(board_session_marked(board, session, 1000, &slot));
}

static void
only_the_session_being_bound_is_awaited(void **state UNUSED)
{
	int64_t start_us;

	assert_int_equal(board_bind_lock(board, 0), 0);
	board_bind_session(board, 7);
	start_us = clock_mono_us();
	board_bind_await(board, 7, 20);
	assert_true(clock_mono_us() - start_us >= 20000);
	/* Nothing to wait for, however long. */
	board_bind_await(board, 8, 3600 * 1000);
	board_bind_unlock(board);
	board_bind_await(board, 7, 3600 * 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(board_is_kept_by_a_new_master_of_the_same_boot),
		TEST(board_of_another_boot_is_made_anew),
		TEST(board_of_another_layout_or_size_is_made_anew),
		TEST(one_process_is_master_of_one_board),
		TEST(file_is_private_and_sparse_until_parts_are_claimed),
		cmocka_unit_test(words_survive_packing),
		cmocka_unit_test(notes_survive_packing),
		cmocka_unit_test(raising_is_a_maximum_within_one_incarnation),
		cmocka_unit_test(word_of_another_incarnation_bars_nothing),
		cmocka_unit_test(deadline_is_over_when_it_is_reached),
		TEST(processes_that_raise_at_once_leave_the_latest_deadline),
		cmocka_unit_test(ladder_doubles_up_to_its_plateau),
		cmocka_unit_test(ladder_keeps_within_its_bounds),
		cmocka_unit_test(open_window_is_stretched_without_a_step),
		cmocka_unit_test(failures_of_one_window_climb_once),
		cmocka_unit_test(ladder_reaches_beyond_a_shorter_block_only),
		cmocka_unit_test(
		    climb_of_a_replaced_credential_changes_nothing),
		TEST(processes_that_fail_at_once_climb_once),
		TEST(cursor_moves_only_from_what_was_read),
		TEST(bodies_are_bounded_over_all_slots_and_given_back),
		TEST(attempts_run_until_they_end_or_are_reaped),
		TEST(counters_of_the_dead_are_kept),
		TEST(lock_of_a_killed_holder_is_recovered),
		TEST(stopped_holder_costs_one_deadline_and_then_nothing),
		TEST(marks_are_seen_until_they_end),
		TEST(only_the_session_being_bound_is_awaited),
		cmocka_unit_test(every_reason_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
