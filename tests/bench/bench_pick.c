/* SPDX-License-Identifier: MIT */
/*
 * What a pick costs, in nanoseconds: without a session, with one that is
 * bound, and with a new one, by the number of credentials and of sessions.
 * Arguments name the rows to run ("pick-500", "session-1000000"); without any
 * all are run. Prints a table; asserts nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"
#include "tests/unit/pool.h"
#include "tests/unit/scratch.h"
#include "worker/select/pick.h"

enum { ROUNDS = 9, PICKS = 50000, NEW = 5000 };

struct bench {
	struct scratch scratch;
	struct board *board;
	struct store state, bindings;
	struct picker picker;
	struct pick pick;
	struct pick_ask ask;
	struct binding_key *keys; /* of the sessions, in no order */
	size_t nactive;
	size_t made; /* sessions so far, for new ones */
	size_t at;   /* the next session to be used */
};

struct row {
	const char *name;
	size_t ncredentials;
	int priorities;   /* so many tiers */
	size_t nsessions; /* stored */
	size_t nactive;   /* of them used, in no order */
	void (*run)(struct bench *b, size_t times);
	size_t times;
};

static double
now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void
pick_once(struct bench *b)
{
	if (pick_begin(&b->pick, &b->picker, &b->ask) != PICK_OK)
		abort();
	pick_end(&b->pick);
}

static void
run_unbound(struct bench *b, size_t times)
{
	b->ask.session = NULL;
	while (times-- > 0)
		pick_once(b);
}

static void
run_bound(struct bench *b, size_t times)
{
	while (times-- > 0) {
		b->ask.session = &b->keys[b->at];
		if (++b->at == b->nactive)
			b->at = 0;
		pick_once(b);
		if (b->pick.decision != PICK_DECISION_HIT)
			abort();
	}
}

static void
make_key(struct bench *b, struct binding_key *key)
{
	char session[32];
	int len = snprintf(session, sizeof(session), "claude:%zu", b->made++);

	binding_key_make(
	    key, NULL, session, (size_t)len, POOL_MODEL, strlen(POOL_MODEL));
}

static void
run_new(struct bench *b, size_t times)
{
	struct binding_key key;

	b->ask.session = &key;
	while (times-- > 0) {
		make_key(b, &key);
		pick_once(b);
		if (b->pick.decision != PICK_DECISION_NEW)
			abort();
	}
}

static void
publish(struct bench *b, const struct row *row)
{
	struct pool_member *members =
	    xcalloc(row->ncredentials, sizeof(*members));
	char(*ids)[32] = xcalloc(row->ncredentials, sizeof(*ids));

	for (size_t i = 0; i < row->ncredentials; i++) {
		(void)snprintf(ids[i], sizeof(ids[i]), "claude-%08zx.json", i);
		members[i] = (struct pool_member){
			.id = ids[i],
			.priority = (int32_t)(i % (size_t)row->priorities),
			.weight = 1,
		};
	}
	pool_publish(&b->state, b->board, members, row->ncredentials);
	free(members);
	free(ids);
}

static void
open_bench(struct bench *b, const struct row *row)
{
	static const struct config config = {
		.routing = {
			.strategy = STRATEGY_ROUND_ROBIN,
			.session_affinity = true,
			.session_affinity_ttl_ms = 3600 * 1000,
		},
	};

	memset(b, 0, sizeof(*b));
	scratch_make(&b->scratch);
	if (board_open_master(b->scratch.dir, "boot", &b->board) < 0 ||
	    store_open_master(&b->state, STORE_STATE, b->scratch.dir, "boot") !=
		0 ||
	    store_open_master(
		&b->bindings, STORE_BINDINGS, b->scratch.dir, "boot") != 0)
		abort();
	publish(b, row);
	picker_init(&b->picker, &b->state, &b->bindings, b->board, &config);
	b->ask = (struct pick_ask){
		.model = POOL_MODEL,
		.model_len = strlen(POOL_MODEL),
		.dialect = DIALECT_CLAUDE,
		.dialects = DIALECT_BIT(DIALECT_CLAUDE),
		.source = "X-Claude-Code-Session-Id",
		.session_short = "claude:0...",
		.now_ms = INT64_C(1700000000000),
	};
}

/* Binds the sessions that are there from the beginning. */
static void
fill(struct bench *b, size_t nsessions, size_t nactive)
{
	b->nactive = nactive;
	b->keys = xcalloc(nsessions, sizeof(*b->keys));
	for (size_t i = 0; i < nsessions; i++) {
		make_key(b, &b->keys[i]);
		b->ask.session = &b->keys[i];
		pick_once(b);
	}
	/* Used in another order than they were made in. */
	for (size_t i = nsessions; i > 1; i--) {
		size_t k = (size_t)random() % i;
		struct binding_key key = b->keys[i - 1];

		b->keys[i - 1] = b->keys[k];
		b->keys[k] = key;
	}
}

static void
close_bench(struct bench *b)
{
	picker_fini(&b->picker);
	store_close(&b->state, false);
	store_close(&b->bindings, false);
	board_close(b->board);
	scratch_remove(&b->scratch);
	free(b->keys);
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The median of several rounds, after one that warms up. */
static double
measure(const struct row *row)
{
	static struct bench b;
	double ns[ROUNDS], start;

	open_bench(&b, row);
	fill(&b, row->nsessions, row->nactive);
	row->run(&b, row->times);
	for (int i = 0; i < ROUNDS; i++) {
		start = now_ns();
		row->run(&b, row->times);
		ns[i] = (now_ns() - start) / (double)row->times;
	}
	close_bench(&b);
	qsort(ns, ROUNDS, sizeof(ns[0]), by_value);
	return ns[ROUNDS / 2];
}

static const struct row rows[] = {
	{ "pick-10", 10, 1, 0, 0, run_unbound, PICKS },
	{ "pick-500", 500, 1, 0, 0, run_unbound, PICKS },
	{ "pick-1000", 1000, 1, 0, 0, run_unbound, PICKS },
	{ "pick-10000", 10000, 1, 0, 0, run_unbound, PICKS },
	{ "mixed-10", 10, 5, 0, 0, run_unbound, PICKS },
	{ "mixed-500", 500, 5, 0, 0, run_unbound, PICKS },
	{ "mixed-1000", 1000, 5, 0, 0, run_unbound, PICKS },
	{ "mixed-10000", 10000, 5, 0, 0, run_unbound, PICKS },
	{ "bound-10", 10, 1, 1000, 1000, run_bound, PICKS },
	{ "bound-500", 500, 1, 1000, 1000, run_bound, PICKS },
	{ "bound-1000", 1000, 1, 1000, 1000, run_bound, PICKS },
	{ "bound-10000", 10000, 1, 1000, 1000, run_bound, PICKS },
	{ "session-1000", 500, 1, 1000, 1000, run_bound, PICKS },
	{ "session-100000", 500, 1, 100000, 100000, run_bound, PICKS },
	{ "session-1000000", 500, 1, 1000000, 1000000, run_bound, PICKS },
	{ "active-100000", 500, 1, 100000, 1000, run_bound, PICKS },
	{ "active-1000000", 500, 1, 1000000, 1000, run_bound, PICKS },
	{ "bind-1000", 500, 1, 1000, 0, run_new, NEW },
	{ "bind-100000", 500, 1, 100000, 0, run_new, NEW },
	{ "bind-1000000", 500, 1, 1000000, 0, run_new, NEW },
};

static bool
wanted(const struct row *row, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], row->name) == 0)
			return true;
	}
	return argc == 1;
}

int
main(int argc, char **argv)
{
	printf("%-18s %12s %6s %10s %10s %10s\n", "row", "credentials", "tiers",
	    "sessions", "active", "ns/pick");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!wanted(&rows[i], argc, argv))
			continue;
		printf("%-18s %12zu %6d %10zu %10zu %10.0f\n", rows[i].name,
		    rows[i].ncredentials, rows[i].priorities, rows[i].nsessions,
		    rows[i].nactive, measure(&rows[i]));
		(void)fflush(stdout);
	}
	return 0;
}
