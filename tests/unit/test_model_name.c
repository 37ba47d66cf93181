/* SPDX-License-Identifier: MIT */
/* The canonical model key and its suffix. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/model_name.h"

static const struct row {
	const char *name, *key, *suffix;
} rows[] = {
	{ "m", "m", NULL },
	{ "m(high)", "m", "(high)" },
	{ "m(8192)", "m", "(8192)" },
	{ "m()", "m", "()" },
	{ "  m (high)\t\n", "m", "(high)" },
	{ "\xc2\xa0m\xe3\x80\x80(x)\xe2\x80\xa8", "m", "(x)" },
	{ "m(a)(b)", "m(a)", "(b)" },
	{ "m(a(b)", "m(a", "(b)" },
	{ "m(a) ", "m", "(a)" },
	{ "m(a)b", "m(a)b", NULL },
	{ "m)", "m)", NULL },
	{ "(high)", "(high)", NULL },
	{ " (high) ", "(high)", NULL },
	{ "()", "()", NULL },
	{ ")", ")", NULL },
	{ "GPT-5(High)", "GPT-5", "(High)" },
	{ "", "", NULL },
	{ "   ", "", NULL },
	{ "team/claude-sonnet-4-5(high)", "team/claude-sonnet-4-5", "(high)" },
};

static void
names_split_into_key_and_suffix(void **state)
{
	const struct row *row;
	struct model_name split;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		row = &rows[i];
		split = model_name_split(span_of(row->name));
		assert_int_equal(split.key.len, strlen(row->key));
		assert_memory_equal(split.key.p, row->key, strlen(row->key));
		if (row->suffix == NULL) {
			assert_null(split.suffix.p);
			continue;
		}
		assert_int_equal(split.suffix.len, strlen(row->suffix));
		assert_memory_equal(
		    split.suffix.p, row->suffix, strlen(row->suffix));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_split_into_key_and_suffix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
