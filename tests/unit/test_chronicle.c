/* SPDX-License-Identifier: MIT */
#include "common/chronicle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/attr.h"

static void
told(struct chronicle *c, int status)
{
	const struct chronicle_event e = { .status = status };

	chronicle_add_event(c, &e);
}

static void
events_come_back_the_last_first(void **state UNUSED)
{
	AUTO_FREE struct chronicle *c = xcalloc(1, sizeof(*c));
	struct chronicle_event e;

	assert_false(chronicle_get_event(c, 0, &e));
	told(c, 1);
	told(c, 2);
	assert_true(chronicle_get_event(c, 0, &e));
	assert_int_equal(e.status, 2);
	assert_true(chronicle_get_event(c, 1, &e));
	assert_int_equal(e.status, 1);
	assert_false(chronicle_get_event(c, 2, &e));
}

static void
ring_keeps_as_many_as_it_has_room_for(void **state UNUSED)
{
	AUTO_FREE struct chronicle *c = xcalloc(1, sizeof(*c));
	struct chronicle_event e;

	for (int i = 1; i <= 3 * CHRONICLE_EVENTS + 5; i++)
		told(c, i);
	for (int back = 0; back < CHRONICLE_EVENTS; back++) {
		assert_true(chronicle_get_event(c, (size_t)back, &e));
		assert_int_equal(e.status, 3 * CHRONICLE_EVENTS + 5 - back);
	}
	assert_false(chronicle_get_event(c, CHRONICLE_EVENTS, &e));
}

static void
what_is_being_written_is_skipped(void **state UNUSED)
{
	AUTO_FREE struct chronicle *c = xcalloc(1, sizeof(*c));
	struct chronicle_event e;

	told(c, 1);
	atomic_store(&c->events[1].number, 0);
	assert_false(chronicle_get_event(c, 0, &e));
}

static void
sample_sums_what_clients_were_told(void **state UNUSED)
{
	struct traffic t = { 0 };
	struct chronicle_sample s;
	const struct tokens claude = { { 10, 5, 30, 60, -1, 105 } };
	const struct tokens openai = { { 100, 5, 40, -1, -1, 105 } };

	traffic_add(&t.requests[DIALECT_CLAUDE][PROVIDER_CLAUDE]
			       [traffic_status_index(200)],
	    5);
	traffic_add(&t.requests[DIALECT_OPENAI][PROVIDER_MAX]
			       [traffic_status_index(429)],
	    2);
	traffic_add(&t.requests[DIALECT_OPENAI][PROVIDER_COMPAT]
			       [traffic_status_index(503)],
	    1);
	traffic_add(&t.requests[DIALECT_OPENAI][PROVIDER_COMPAT]
			       [traffic_status_index(404)],
	    1);
	traffic_observe(&t.first_byte, 90);
	traffic_add_tokens(&t, PROVIDER_CLAUDE, &claude);
	traffic_add_tokens(&t, PROVIDER_COMPAT, &openai);
	chronicle_sample_of(&t, 77, &s);
	assert_int_equal(s.ms, 77);
	assert_int_equal(s.requests, 9);
	assert_int_equal(s.errors, 3);
	assert_int_equal(s.tokens_cached, 70);
	assert_int_equal(s.tokens_prompt, 10 + 30 + 60 + 100);
	assert_int_equal(s.first_byte[0], 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_come_back_the_last_first),
		cmocka_unit_test(ring_keeps_as_many_as_it_has_room_for),
		cmocka_unit_test(what_is_being_written_is_skipped),
		cmocka_unit_test(sample_sums_what_clients_were_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
