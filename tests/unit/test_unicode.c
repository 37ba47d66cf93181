/* SPDX-License-Identifier: MIT */
/* White space and control characters of Unicode. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/unicode.h"

static const char *const spaces[] = { " ", "\t", "\n", "\v", "\f", "\r",
	"\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x8a",
	"\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f",
	"\xe3\x80\x80" };

/* Zero width space, a joiner, half of a space, letters that end like one. */
static const char *const others[] = { "\xe2\x80\x8b", "\xe2\x80\x8d",
	"\xe2\x80", "\xa0", "\xc3\xa0", "\xe4\xb8\x80" };

static void
assert_trimmed(const char *before, const char *middle, const char *after)
{
	char text[64];
	struct span s;

	(void)strcpy(text, before);
	(void)strcat(text, middle);
	(void)strcat(text, after);
	s = unicode_trim(span_of(text));
	assert_int_equal(s.len, strlen(middle));
	assert_memory_equal(s.p, middle, s.len);
}

static void
white_space_is_trimmed_at_both_ends(void **state)
{
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
		assert_trimmed(spaces[i], "a b", spaces[i]);
		assert_trimmed(spaces[i], "", spaces[i]);
		for (k = 0; k < sizeof(spaces) / sizeof(spaces[0]); k++)
			assert_trimmed(spaces[i], "x", spaces[k]);
	}
}

static void
what_only_resembles_white_space_stays(void **state)
{
	char text[16];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		(void)strcpy(text, others[i]);
		(void)strcat(text, "x");
		(void)strcat(text, others[i]);
		assert_trimmed(" ", text, " ");
	}
}

static void
control_characters_are_found_anywhere(void **state)
{
	static const char *const with[] = { "\t", "a\n", "\x1f", "a\x7f",
		"\xc2\x80", "x\xc2\x9fy", "\xe2\xc2\x85" };
	static const char *const without[] = { "", " ", "~", "\xc2\xa0",
		"\xc3\x80", "\x80", "\x9f", "\xc2", "\xe2\x80\x8b" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(with) / sizeof(with[0]); i++)
		assert_true(unicode_has_control(span_of(with[i])));
	for (i = 0; i < sizeof(without) / sizeof(without[0]); i++)
		assert_false(unicode_has_control(span_of(without[i])));
	assert_true(unicode_has_control((struct span){ "a\0b", 3 }));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(white_space_is_trimmed_at_both_ends),
		cmocka_unit_test(what_only_resembles_white_space_stays),
		cmocka_unit_test(control_characters_are_found_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
