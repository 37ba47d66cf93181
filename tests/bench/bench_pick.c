/* SPDX-License-Identifier: MIT */
/*
 * What a pick costs, in nanoseconds: without a session, with one that is
 * bound, and with a new one, by the number of credentials and of sessions;
 * and what it costs to sweep one. Sessions are used all alike ("session"), by
 * Zipf's law ("skewed"), or a thousand of them are ("active").
 * Arguments name the rows to run ("pick-500", "session-1000000"); without any
 * all are run. Prints a table; asserts nothing but that each pick succeeds.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"
#include "common/clock.h"
#include "tests/unit/pool.h"
#include "tests/unit/scratch.h"
#include "worker/select/pick.h"
#include "worker/select/strategy.h"

enum { ROUNDS = 15, PICKS = 50000, NEW = 5000 };

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

/* What the credentials are like. */
enum shape {
	ALIKE,
	PRIORITY,       /* every second one is of a lower tier */
	MIXED,          /* every second one is of another provider */
	MIXED_PRIORITY, /* both: a provider for each tier */
	BENCHED,        /* nine of ten are cooling */
	BENCHED_TIER    /* the whole first tier of two is cooling */
};

struct row {
	const char *kind; /* with the number of credentials or sessions */
	enum shape shape;
	size_t ncredentials;
	size_t nsessions; /* stored */
	size_t nactive;   /* of them used, in no order */
	void (*run)(struct bench *b, size_t times);
	size_t times;
	enum strategy_id strategy;
};

static double
now_ns(void)
{
	struct timespec ts;

	/* Of this process: others on the machine do not count. */
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* With the time of each pick, as a worker does. */
static void
pick_once(struct bench *b)
{
	b->ask.now_ms = clock_now_ms();
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

/* One in ten fails and its bench is over at once, or ten would be soon. */
static void
run_and_mark(struct bench *b, size_t times)
{
	const struct state_credential *c;

	b->ask.session = NULL;
	while (times-- > 0) {
		b->ask.now_ms = clock_now_ms();
		if (pick_begin(&b->pick, &b->picker, &b->ask) != PICK_OK)
			abort();
		c = b->pick.credential;
		if (times % 10 == 0)
			(void)board_cell_raise(
			    &b->board->cells[b->pick.model->cell],
			    (struct board_word){
				c->incarnation, BOARD_COOLING, b->ask.now_ms });
		else
			(void)atomic_fetch_add(
			    &b->board->credentials[c->slot].succeeded, 1);
		pick_end(&b->pick);
	}
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

/*
 * Of the sessions some are used far more than others: the one of rank r about
 * 1/r as often as the first (Zipf's law, by its inverse).
 */
static void
run_skewed(struct bench *b, size_t times)
{
	while (times-- > 0) {
		double u = (double)random() / RAND_MAX;
		size_t rank = (size_t)pow((double)b->nactive, u);

		b->ask.session = &b->keys[rank < b->nactive ? rank : 0];
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

static bool
is_tiered(enum shape shape)
{
	return shape == PRIORITY || shape == MIXED_PRIORITY ||
	       shape == BENCHED_TIER;
}

static bool
is_mixed(enum shape shape)
{
	return shape == MIXED || shape == MIXED_PRIORITY;
}

static bool
is_benched(enum shape shape, size_t i)
{
	return (shape == BENCHED && i % 10 != 0) ||
	       (shape == BENCHED_TIER && i % 2 == 0);
}

/* Sweeps so many expired sessions. */
static void
run_sweep(struct bench *b, size_t times)
{
	int64_t later_ms = b->ask.now_ms + INT64_C(2) * 3600 * 1000;
	size_t done = 0;
	int n;

	while (done < times) {
		n = bindings_sweep(&b->bindings, b->board, later_ms, 0);
		if (n <= 0)
			abort();
		done += (size_t)n;
	}
}

static void
publish(struct bench *b, const struct row *row)
{
	struct pool_member *members =
	    xcalloc(row->ncredentials, sizeof(*members));
	char(*ids)[32] = xcalloc(row->ncredentials, sizeof(*ids));

	for (size_t i = 0; i < row->ncredentials; i++) {
		bool odd = i % 2 != 0;

		(void)snprintf(ids[i], sizeof(ids[i]), "claude-%08zx.json", i);
		members[i] = (struct pool_member){
			.id = ids[i],
			.priority = is_tiered(row->shape) && !odd ? 10 : 0,
			.provider = is_mixed(row->shape) && odd ? "p2" : "p1",
			.weight = 1 + (int32_t)(i % 5),
		};
	}
	pool_publish(&b->state, b->board, members, row->ncredentials);
	for (uint32_t i = 0; i < row->ncredentials; i++) {
		if (is_benched(row->shape, i))
			(void)board_cell_raise(&b->board->cells[i],
			    (struct board_word){ POOL_INCARNATION,
				BOARD_COOLING, clock_now_ms() + 3600 * 1000 });
	}
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
	b->picker.strategy = strategy_get(row->strategy);
	b->ask = (struct pick_ask){
		.model = POOL_MODEL,
		.model_len = strlen(POOL_MODEL),
		.dialect = DIALECT_CLAUDE,
		.dialects = DIALECT_BIT(DIALECT_CLAUDE),
		.source = "X-Claude-Code-Session-Id",
		.session_short = "claude:0...",
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
	/* As the master does, and as the first turn after it does. */
	if (bindings_sweep(&b->bindings, b->board, b->ask.now_ms, 0) < 0)
		abort();
	for (size_t i = 0; i < nsessions && nactive > 0; i++) {
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

/* The median of several rounds, after one that warms up; *best: the least. */
static double
measure(const struct row *row, double *best)
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
	*best = ns[0];
	return ns[ROUNDS / 2];
}

#define BY_CREDENTIALS(kind, shape, nsessions, run, strategy)                  \
	{ kind, shape, 10, nsessions, nsessions, run, PICKS, strategy },       \
	    { kind, shape, 500, nsessions, nsessions, run, PICKS, strategy },  \
	    { kind, shape, 1000, nsessions, nsessions, run, PICKS, strategy }, \
	{                                                                      \
		kind, shape, 10000, nsessions, nsessions, run, PICKS, strategy \
	}

#define BY_SESSIONS(kind, nsessions, nactive, run, times)                      \
	{                                                                      \
		kind, ALIKE, 500, nsessions, nactive, run, times,              \
		    STRATEGY_ROUND_ROBIN                                       \
	}

static const struct row rows[] = {
	BY_CREDENTIALS("pick", ALIKE, 0, run_unbound, STRATEGY_ROUND_ROBIN),
	BY_CREDENTIALS(
	    "pick-priority", PRIORITY, 0, run_unbound, STRATEGY_ROUND_ROBIN),
	BY_CREDENTIALS(
	    "pick-mixed", MIXED, 0, run_unbound, STRATEGY_ROUND_ROBIN),
	BY_CREDENTIALS("pick-mixed-priority", MIXED_PRIORITY, 0, run_unbound,
	    STRATEGY_ROUND_ROBIN),
	BY_CREDENTIALS(
	    "pick-and-mark", ALIKE, 0, run_and_mark, STRATEGY_ROUND_ROBIN),
	BY_CREDENTIALS(
	    "pick-weighted", ALIKE, 0, run_unbound, STRATEGY_WEIGHTED),
	BY_CREDENTIALS(
	    "pick-benched", BENCHED, 0, run_unbound, STRATEGY_ROUND_ROBIN),
	BY_CREDENTIALS("pick-benched-tier", BENCHED_TIER, 0, run_unbound,
	    STRATEGY_ROUND_ROBIN),
	BY_CREDENTIALS(
	    "pick-bound", ALIKE, 1000, run_bound, STRATEGY_ROUND_ROBIN),
	BY_SESSIONS("session", 1000, 1000, run_bound, PICKS),
	BY_SESSIONS("session", 100000, 100000, run_bound, PICKS),
	BY_SESSIONS("session", 1000000, 1000000, run_bound, PICKS),
	BY_SESSIONS("skewed", 1000, 1000, run_skewed, PICKS),
	BY_SESSIONS("skewed", 100000, 100000, run_skewed, PICKS),
	BY_SESSIONS("skewed", 1000000, 1000000, run_skewed, PICKS),
	BY_SESSIONS("active", 100000, 1000, run_bound, PICKS),
	BY_SESSIONS("active", 1000000, 1000, run_bound, PICKS),
	BY_SESSIONS("bind", 1000, 0, run_new, NEW),
	BY_SESSIONS("bind", 100000, 0, run_new, NEW),
	BY_SESSIONS("bind", 1000000, 0, run_new, NEW),
	BY_SESSIONS("sweep", 100000, 0, run_sweep, 100000 / (ROUNDS + 2)),
	BY_SESSIONS("sweep", 1000000, 0, run_sweep, 50000),
};

/* "pick-500", "session-1000". */
static void
name_row(const struct row *row, char *name, size_t size)
{
	bool by_credentials = strncmp(row->kind, "pick", 4) == 0;

	(void)snprintf(name, size, "%s-%zu", row->kind,
	    by_credentials ? row->ncredentials : row->nsessions);
}

static bool
wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return true;
	}
	return argc == 1;
}

int
main(int argc, char **argv)
{
	double best, median;
	char name[64];
	size_t ran = 0;

	printf("%-26s %12s %10s %10s %10s %10s\n", "row", "credentials",
	    "sessions", "active", "ns/pick", "best");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *row = &rows[i];

		name_row(row, name, sizeof(name));
		if (!wanted(name, argc, argv))
			continue;
		ran++;
		median = measure(row, &best);
		printf("%-26s %12zu %10zu %10zu %10.0f %10.0f\n", name,
		    row->ncredentials, row->nsessions, row->nactive, median,
		    best);
		(void)fflush(stdout);
	}
	if (ran == 0)
		(void)fprintf(stderr, "bench-pick: there is no such row\n");
	return ran == 0 ? 1 : 0;
}
