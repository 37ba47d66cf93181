/* SPDX-License-Identifier: MIT */
#include "master/ledger.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

enum { JOBS = 100 };

struct fixture {
	struct scratch scratch;
	struct event_base *base;
	struct store store;
	struct ledger *ledger;
	pthread_t loop;
	unsigned ran, done;
};

struct put {
	struct ledger_job job;
	struct fixture *f;
	uint32_t key;
	int rc;
	bool again; /* submit another when done */
	struct put *next;
};

static int
set_up(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	*state = f;
	scratch_make(&f->scratch);
	f->loop = pthread_self();
	f->base = event_base_new();
	assert_int_equal(
	    store_open_master(&f->store, STORE_LEDGER, f->scratch.dir, "boot"),
	    0);
	assert_int_equal(ledger_start(f->base, &f->store, &f->ledger), 0);
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	ledger_stop(f->ledger);
	store_close(&f->store, true);
	event_base_free(f->base);
	scratch_remove(&f->scratch);
	test_free(f);
	return 0;
}

static int
put_key(struct store *store, uint32_t key)
{
	char ok[] = "ok";
	MDB_val k = { sizeof(key), &key }, v = { sizeof(ok), ok };
	MDB_txn *txn;
	int rc = store_write(store, &txn);

	if (rc == 0)
		rc = store_errno(
		    mdb_put(txn, store->tables[LEDGER_REFRESH], &k, &v, 0));
	return rc == 0 ? store_commit(txn) : rc;
}

static void
run_put(struct ledger_job *job, struct store *store)
{
	struct put *p = (struct put *)job;

	p->rc = pthread_equal(pthread_self(), p->f->loop) && !p->again
		    ? -1
		    : put_key(store, p->key);
	p->f->ran++;
}

static void
put_done(struct ledger_job *job)
{
	struct put *p = (struct put *)job;
	struct fixture *f = p->f;

	assert_int_equal(p->rc, 0);
	assert_true(pthread_equal(pthread_self(), f->loop));
	/* In the order in which they were handed in. */
	assert_int_equal(p->key, f->done++);
	if (p->next != NULL)
		ledger_submit(f->ledger, &p->next->job);
	if (f->done == JOBS)
		(void)event_base_loopbreak(f->base);
}

static void
jobs_run_in_order_on_a_thread_and_end_on_the_loop(void **state)
{
	struct fixture *f = *state;
	struct put puts[JOBS];

	for (uint32_t i = 0; i < JOBS; i++) {
		puts[i] = (struct put){
			.job = { .run = run_put, .done = put_done },
			.f = f,
			.key = i,
		};
		ledger_submit(f->ledger, &puts[i].job);
	}
	(void)event_base_dispatch(f->base);
	assert_int_equal(f->done, JOBS);
}

static void
to_stop_runs_what_waits_and_what_that_asks_for(void **state)
{
	struct fixture *f = *state;
	struct put last = { .job = { .run = run_put, .done = put_done },
		.f = f,
		.key = 1,
		.again = true };
	struct put first = { .job = { .run = run_put, .done = put_done },
		.f = f,
		.key = 0,
		.next = &last };

	ledger_submit(f->ledger, &first.job);
	ledger_stop(f->ledger);
	f->ledger = NULL;
	assert_int_equal(f->ran, 2);
	assert_int_equal(f->done, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    jobs_run_in_order_on_a_thread_and_end_on_the_loop, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(
		    to_stop_runs_what_waits_and_what_that_asks_for, set_up,
		    tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
