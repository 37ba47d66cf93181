/* SPDX-License-Identifier: MIT */
#include "common/traffic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/attr.h"

static void
value_is_counted_below_the_first_bound_that_holds_it(void **state UNUSED)
{
	static const struct {
		int64_t us;
		int64_t bound_us;
	} rows[] = {
		{ -5, 100 },
		{ 0, 100 },
		{ 100, 100 },
		{ 101, 250 },
		{ 999, 1000 },
		{ 1000000, 1000000 },
		{ 300000000, 300000000 },
		{ 300000001, -1 },
		{ INT64_MAX, -1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct traffic_histogram h = { 0 };
		unsigned int at = 0;

		traffic_observe(&h, rows[i].us);
		while (atomic_load(&h.buckets[at]) == 0)
			at++;
		assert_int_equal(traffic_bound_us(at), rows[i].bound_us);
	}
}

static void
bounds_rise_and_the_last_has_none(void **state UNUSED)
{
	for (unsigned int i = 1; i + 1 < TRAFFIC_BUCKETS; i++)
		assert_true(traffic_bound_us(i) > traffic_bound_us(i - 1));
	assert_int_equal(traffic_bound_us(TRAFFIC_BUCKETS - 1), -1);
}

static void
status_has_a_place_and_rare_ones_share_one(void **state UNUSED)
{
	static const int known[] = { 200, 400, 429, 499, 500, 529 };
	static const int rare[] = { 0, 100, 302, 418, 599, 1000, -1 };

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		assert_int_equal(
		    traffic_status(traffic_status_index(known[i])), known[i]);
	for (size_t i = 0; i < ARRAY_LEN(rare); i++) {
		assert_int_equal(
		    traffic_status(traffic_status_index(rare[i])), 0);
		assert_true(traffic_status_index(rare[i]) < TRAFFIC_STATUSES);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    value_is_counted_below_the_first_bound_that_holds_it),
		cmocka_unit_test(bounds_rise_and_the_last_has_none),
		cmocka_unit_test(status_has_a_place_and_rare_ones_share_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
