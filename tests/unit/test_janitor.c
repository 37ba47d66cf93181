/* SPDX-License-Identifier: MIT */
#include "master/janitor.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bindings.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/master.h"
#include "master/workers.h"
#include "tests/unit/scratch.h"

#define BOOT "11111111-2222-3333-4444-555555555555"

enum { HELD_MS = 5000, CHILD_SLOT = 3 };

struct stage {
	struct scratch scratch;
	struct master m;
	struct janitor *janitor;
	struct gate gate;
};

static const struct workers_ops ops = { 0 };

static void
stage_make(struct stage *st)
{
	memset(st, 0, sizeof(*st));
	scratch_make(&st->scratch);
	gate_make(&st->gate);
	st->m.base = event_base_new();
	assert_int_equal(store_open_master(&st->m.store_state, STORE_STATE,
			     st->scratch.dir, BOOT),
	    0);
	assert_int_equal(store_open_master(&st->m.store_bindings,
			     STORE_BINDINGS, st->scratch.dir, BOOT),
	    0);
	assert_int_equal(
	    board_open_master(st->scratch.dir, BOOT, &st->m.board), BOARD_MADE);
	st->m.workers = workers_new(st->m.base, st->m.board,
	    open("/proc/self/exe", O_PATH | O_CLOEXEC), &ops, st);
	st->janitor = janitor_new(&st->m);
}

static void
stage_end(struct stage *st)
{
	janitor_free(st->janitor);
	workers_free(st->m.workers);
	board_close(st->m.board);
	store_close(&st->m.store_bindings, true);
	store_close(&st->m.store_state, true);
	event_base_free(st->m.base);
	gate_remove(&st->gate);
	scratch_remove(&st->scratch);
}

static int
take_lock_and_stay(void *ctx)
{
	struct stage *st = ctx;

	if (board_bind_lock(st->m.board, 0) != 0)
		return 1;
	gate_tell(&st->gate);
	for (;;)
		(void)pause();
}

/* A process that holds the lock, as if it had done so for a while. */
static pid_t
start_holder(struct stage *st, int64_t held_ms)
{
	pid_t pid = child_start(take_lock_and_stay, st);

	gate_listen(&st->gate);
	atomic_store(
	    &st->m.board->bind_since_ms, clock_mono_us() / 1000 - held_ms);
	return pid;
}

static void
put_on_board(struct stage *st, pid_t pid)
{
	struct board_slot *slot = &st->m.board->slots[CHILD_SLOT];

	assert_int_equal(board_slot_claim(st->m.board, CHILD_SLOT), 0);
	atomic_store(&slot->pid, pid);
	atomic_store(&slot->state, BOARD_SLOT_SERVING);
}

static bool
is_killed_by_a_round(struct stage *st, pid_t pid)
{
	janitor_tick(st->janitor);
	/* What the janitor did not end ends with this. */
	(void)kill(pid, SIGTERM);
	return child_wait(pid) == -SIGKILL;
}

/* Whoever is younger than the lock's age cannot be its holder. */
static void
wait_until_older_than(int64_t ms)
{
	int64_t until = clock_mono_us() + ms * 1000;

	while (clock_mono_us() < until)
		(void)usleep(1000);
}

static void
a_worker_that_sits_on_the_lock_is_killed(void **state UNUSED)
{
	struct stage st;
	pid_t pid;

	stage_make(&st);
	pid = child_start(take_lock_and_stay, &st);
	gate_listen(&st.gate);
	put_on_board(&st, pid);
	wait_until_older_than(2100);
	assert_true(is_killed_by_a_round(&st, pid));
	assert_int_equal(board_bind_lock(st.m.board, 0), 0);
	board_bind_unlock(st.m.board);
	stage_end(&st);
}

static void
a_worker_that_holds_it_briefly_is_let_be(void **state UNUSED)
{
	struct stage st;
	pid_t pid;

	stage_make(&st);
	pid = start_holder(&st, 0);
	put_on_board(&st, pid);
	assert_false(is_killed_by_a_round(&st, pid));
	stage_end(&st);
}

static void
a_process_that_is_no_worker_is_let_be(void **state UNUSED)
{
	struct stage st;
	pid_t pid;

	stage_make(&st);
	pid = start_holder(&st, HELD_MS);
	assert_false(is_killed_by_a_round(&st, pid));
	stage_end(&st);
}

/* The lock is older than the process: the pid was another's then. */
static void
a_process_that_got_the_pid_later_is_let_be(void **state UNUSED)
{
	struct stage st;
	pid_t pid;

	stage_make(&st);
	pid = start_holder(&st, HELD_MS);
	put_on_board(&st, pid);
	assert_false(is_killed_by_a_round(&st, pid));
	stage_end(&st);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_worker_that_sits_on_the_lock_is_killed),
		cmocka_unit_test(a_worker_that_holds_it_briefly_is_let_be),
		cmocka_unit_test(a_process_that_is_no_worker_is_let_be),
		cmocka_unit_test(a_process_that_got_the_pid_later_is_let_be),
	};

	log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
