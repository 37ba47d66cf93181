/* SPDX-License-Identifier: MIT */
/* When a token is refreshed: lifecycle times against expected ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/attr.h"
#include "master/refresh/due.h"

#define MIN INT64_C(60000)
#define NOW (INT64_C(1000000) * MIN)

static void
the_first_rule_that_holds_counts(void **state UNUSED)
{
	static const struct {
		struct refresh_times t;
		int64_t due_ms;
	} rows[] = {
		/* By the lead. */
		{ { NOW, NOW + 60 * MIN, 0, 0, 10 * MIN, 0 }, NOW + 50 * MIN },
		{ { NOW, NOW + 5 * MIN, 0, 0, 10 * MIN, 0 }, NOW },
		{ { NOW, NOW - 5 * MIN, 0, 0, 10 * MIN, 0 }, NOW },
		{ { NOW, NOW + 60 * MIN, 0, 0, 0, 0 }, NOW + 60 * MIN },
		/* Without an expiry, by the last refresh. */
		{ { NOW, 0, NOW - 3 * MIN, 0, 10 * MIN, 0 }, NOW + 7 * MIN },
		{ { NOW, 0, NOW - 30 * MIN, 0, 10 * MIN, 0 }, NOW },
		{ { NOW, 0, 0, 0, 10 * MIN, 0 }, NOW },
		{ { NOW, 0, 0, 0, 0, 0 }, REFRESH_NEVER },
		{ { NOW, 0, NOW - 3 * MIN, 0, 0, 0 }, REFRESH_NEVER },
		/* Never more than half of the lifetime. */
		{ { NOW, NOW + 60 * MIN, NOW, 0, 240 * MIN, 0 },
		    NOW + 30 * MIN },
		{ { NOW, NOW + 60 * MIN, NOW + 61 * MIN, 0, 10 * MIN, 0 },
		    NOW + 50 * MIN },
		/* An interval: the earliest of what it means. */
		{ { NOW, NOW + 20 * MIN, NOW - 5 * MIN, 10 * MIN, MIN, 0 },
		    NOW + 5 * MIN },
		{ { NOW, NOW + 20 * MIN, NOW - 1, 15 * MIN, MIN, 0 },
		    NOW + 10 * MIN },
		{ { NOW, NOW + 20 * MIN, 0, 15 * MIN, MIN, 0 }, NOW },
		{ { NOW, 0, NOW - 5 * MIN, 15 * MIN, MIN, 0 }, NOW + 10 * MIN },
		{ { NOW, NOW - MIN, NOW - 5 * MIN, 15 * MIN, MIN, 0 }, NOW },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t due_ms = refresh_due(&rows[i].t);

		if (due_ms - rows[i].due_ms > 1 || rows[i].due_ms - due_ms > 1)
			fail_msg("row %zu: %lld ms off", i,
			    (long long)(due_ms - rows[i].due_ms));
	}
}

static void
jitter_is_at_most_a_tenth_of_the_lead_and_never_late(void **state UNUSED)
{
	struct refresh_times t = { NOW, NOW + 60 * MIN, 0, 0, 10 * MIN, 0 };
	int64_t before = NOW + 50 * MIN + 1;

	for (t.jitter = 0; t.jitter <= REFRESH_JITTER_MAX; t.jitter += 100) {
		int64_t due_ms = refresh_due(&t);

		assert_true(due_ms < before);
		assert_true(due_ms >= NOW + 49 * MIN);
		before = due_ms;
	}
	assert_int_equal(before, NOW + 49 * MIN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_rule_that_holds_counts),
		cmocka_unit_test(
		    jitter_is_at_most_a_tenth_of_the_lead_and_never_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
