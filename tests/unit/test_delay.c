/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/attr.h"
#include "worker/dialect/delay.h"

static void
delays_are_read_as_providers_write_them(void **state UNUSED)
{
	static const struct {
		const char *text;
		int64_t ms;
	} rows[] = {
		{ "12", 12000 },
		{ "0", 0 },
		{ "12.5", 12500 },
		{ "0.0001", 1 },
		{ "1.9999999999999999999", 2000 },
		{ "36.5s", 36500 },
		{ "36.594803s", 36595 },
		{ "373.801628ms", 374 },
		{ "20ms", 20 },
		{ "6m0s", 360000 },
		{ "1h16m0.667s", 4560667 },
		{ "1h", 3600000 },
		{ "2d", 172800000 },
		{ "1500us", 2 },
		{ "1500\xc2\xb5s", 2 },
		{ "1ns", 1 },
		{ "7m12s", 432000 },
		{ "99999999999999999999", DELAY_MAX_MS },
		{ "99999999999999999999d1s", DELAY_MAX_MS },
		{ "", DELAY_NONE },
		{ "s", DELAY_NONE },
		{ "-3", DELAY_NONE },
		{ "+3s", DELAY_NONE },
		{ "3x", DELAY_NONE },
		{ "3s later", DELAY_NONE },
		{ "3s4", DELAY_NONE },
		{ "1h ", DELAY_NONE },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(delay_read(span_of(rows[i].text)), rows[i].ms);
}

static void
sentences_ask_for_delays(void **state UNUSED)
{
	static const struct {
		const char *text;
		int64_t ms;
	} rows[] = {
		{ "Your quota will reset after 1h2m3s.", 3723000 },
		{ "You have exhausted your capacity. Your quota will reset "
		  "After 37s.",
		    37000 },
		{ "Rate limit reached. Please try again in 6m0s. Visit",
		    360000 },
		{ "Please retry in 36.594803s.", 36595 },
		{ "Please try again in 20ms.", 20 },
		{ "after all, try again after 5s", 5000 },
		{ "after 5 attempts", DELAY_NONE },
		{ "wait 5s", DELAY_NONE },
		{ "after ", DELAY_NONE },
		{ "", DELAY_NONE },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
		    delay_in_text(span_of(rows[i].text)), rows[i].ms);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(delays_are_read_as_providers_write_them),
		cmocka_unit_test(sentences_ask_for_delays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
