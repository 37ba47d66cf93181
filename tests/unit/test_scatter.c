/* SPDX-License-Identifier: MIT */
/*
 * The first requests of new sessions, all at once in real processes: each
 * session lands on one credential, and moves to one, also when the lock is
 * held for longer than anybody waits. FAIRLEAD_SCATTER_SESSIONS says how many
 * sessions; 64 requests each.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#include "common/attr.h"
#include "common/clock.h"
#include "tests/unit/pool.h"
#include "tests/unit/scratch.h"
#include "worker/select/pick.h"

#define BOOT "11111111-2222-3333-4444-555555555555"

enum { WORKERS = 8, REQUESTS = 64, MEMBERS = 7, SESSIONS = 200 };

static const struct config config = {
	.routing = {
		.strategy = STRATEGY_ROUND_ROBIN,
		.session_affinity = true,
		.session_affinity_ttl_ms = 3600 * 1000,
	},
};

/* What the processes share; a bit stands for the slot of a credential. */
struct ground {
	_Atomic uint32_t arrived;
	_Atomic bool over;
	_Atomic uint64_t unbound; /* picks without the lock */
	struct {
		_Atomic uint32_t first, second;
	} used[];
};

static struct scratch scratch;
static struct board *board;
static struct store state_store, bindings_store;
static struct ground *ground;
static size_t ground_bytes, nsessions;
static int64_t now_ms;

static int
set_up(void **state UNUSED)
{
	static const struct pool_member members[MEMBERS] = {
		{ .id = "a", .weight = 1 },
		{ .id = "b", .weight = 1 },
		{ .id = "c", .weight = 1 },
		{ .id = "d", .weight = 1 },
		{ .id = "e", .weight = 1 },
		{ .id = "f", .weight = 1 },
		{ .id = "g", .weight = 1 },
	};
	const char *size = getenv("FAIRLEAD_SCATTER_SESSIONS");

	nsessions = size != NULL ? strtoul(size, NULL, 10) : SESSIONS;
	ground_bytes = sizeof(*ground) + nsessions * sizeof(ground->used[0]);
	ground = mmap(NULL, ground_bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	scratch_make(&scratch);
	now_ms = INT64_C(1700000000000);
	if (ground == MAP_FAILED ||
	    board_open_master(scratch.dir, BOOT, &board) != BOARD_MADE ||
	    store_open_master(&state_store, STORE_STATE, scratch.dir, BOOT) !=
		0 ||
	    store_open_master(
		&bindings_store, STORE_BINDINGS, scratch.dir, BOOT) != 0)
		return -1;
	pool_publish(&state_store, board, members, MEMBERS);
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	store_close(&state_store, false);
	store_close(&bindings_store, false);
	board_close(board);
	scratch_remove(&scratch);
	(void)munmap(ground, ground_bytes);
	return 0;
}

struct worker_side {
	struct store state, bindings;
	struct picker picker;
};

static int
worker_open(struct worker_side *w)
{
	struct board *mine;

	if (store_open_worker(&w->state, STORE_STATE, scratch.dir) != 0 ||
	    store_open_worker(&w->bindings, STORE_BINDINGS, scratch.dir) != 0 ||
	    board_open_worker(scratch.dir, &mine) != 0)
		return -1;
	picker_init(&w->picker, &w->state, &w->bindings, mine, &config);
	return 0;
}

/* Nobody goes on before everybody is there. */
static void
meet(uint32_t round)
{
	(void)atomic_fetch_add(&ground->arrived, 1);
	while (atomic_load(&ground->arrived) < (round + 1) * WORKERS)
		(void)sched_yield();
}

/* One request; the credential that it failed on, or NULL. Its slot. */
static int
ask(struct worker_side *w, size_t session, const uint32_t *failed)
{
	static struct pick p;
	struct binding_key key;
	char name[32], id[8] = "";
	int len = snprintf(name, sizeof(name), "claude:%zu", session);
	struct pick_ask ask = {
		.model = POOL_MODEL,
		.model_len = strlen(POOL_MODEL),
		.dialect = DIALECT_CLAUDE,
		.dialects = DIALECT_BIT(DIALECT_CLAUDE),
		.session = &key,
		.excluded = failed,
		.nexcluded = failed != NULL,
		.now_ms = now_ms,
	};
	int slot = -1;

	if (failed != NULL) {
		id[0] = (char)('a' + *failed);
		ask.expected = id;
	}
	binding_key_make(
	    &key, NULL, name, (size_t)len, POOL_MODEL, strlen(POOL_MODEL));
	if (pick_begin(&p, &w->picker, &ask) == PICK_OK)
		slot = (int)p.credential->slot;
	if (p.decision == PICK_DECISION_NONE)
		(void)atomic_fetch_add(&ground->unbound, 1);
	pick_end(&p);
	return slot;
}

static int
first_requests(struct worker_side *w, size_t session, _Atomic uint32_t *used,
    const uint32_t *failed)
{
	for (int i = 0; i < REQUESTS / WORKERS; i++) {
		int slot = ask(w, session, failed);

		if (slot < 0)
			return -1;
		(void)atomic_fetch_or(used, 1u << slot);
	}
	return 0;
}

static int
work(void *ctx UNUSED)
{
	struct worker_side w;
	uint32_t first;

	if (worker_open(&w) < 0)
		return 1;
	for (uint32_t s = 0; s < nsessions; s++) {
		meet(2 * s);
		if (first_requests(&w, s, &ground->used[s].first, NULL) < 0)
			return 2;
		meet(2 * s + 1);
		/* All of them fail where they were served. */
		first = (uint32_t)__builtin_ctz(ground->used[s].first);
		if (first_requests(&w, s, &ground->used[s].second, &first) < 0)
			return 3;
	}
	return 0;
}

/* Holds the lock for longer than the deadline, again and again. */
static int
hold(void *ctx UNUSED)
{
	const struct timespec held = { .tv_nsec = 7 * 1000 * 1000 };
	const struct timespec pause = { .tv_nsec = 2 * 1000 * 1000 };

	while (!atomic_load(&ground->over)) {
		if (board_bind_lock(board, 1000) != 0)
			continue;
		(void)nanosleep(&held, NULL);
		board_bind_unlock(board);
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

static void
let_all_ask(bool disturbed)
{
	pid_t pids[WORKERS], holder = 0;
	size_t scattered = 0;

	if (disturbed)
		holder = child_start(hold, NULL);
	for (int i = 0; i < WORKERS; i++)
		pids[i] = child_start(work, NULL);
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(child_wait(pids[i]), 0);
	atomic_store(&ground->over, true);
	if (disturbed)
		assert_int_equal(child_wait(holder), 0);
	for (size_t s = 0; s < nsessions; s++) {
		scattered += __builtin_popcount(ground->used[s].first) != 1;
		scattered += __builtin_popcount(ground->used[s].second) != 1;
	}
	print_message("%zu sessions, %d requests each; %llu without the lock\n",
	    nsessions, 2 * REQUESTS,
	    (unsigned long long)atomic_load(&ground->unbound));
	assert_int_equal(scattered, 0);
}

static void
parallel_first_requests_do_not_scatter(void **state UNUSED)
{
	let_all_ask(false);
}

static void
nor_do_they_when_the_lock_is_held_too_long(void **state UNUSED)
{
	let_all_ask(true);
	assert_true(atomic_load(&ground->unbound) > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(parallel_first_requests_do_not_scatter),
		TEST(nor_do_they_when_the_lock_is_held_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
