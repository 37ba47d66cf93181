/* SPDX-License-Identifier: MIT */
#include "common/buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
appending_stops_at_the_maximum_and_says_so(void **state UNUSED)
{
	struct buf b = BUF_INIT(300);
	char block[200];

	memset(block, 'x', sizeof(block));
	buf_append(&b, block, sizeof(block));
	assert_false(b.failed);
	buf_append(&b, block, sizeof(block));
	assert_true(b.failed);
	assert_int_equal(b.len, sizeof(block));
	assert_true(b.cap <= 300);
	buf_puts(&b, "more");
	assert_int_equal(b.len, sizeof(block));
	assert_string_equal(buf_string(&b), "");
	buf_clear(&b);
	buf_puts(&b, "fresh");
	assert_string_equal(buf_string(&b), "fresh");
	buf_fini(&b);
}

static void
printf_and_consume(void **state UNUSED)
{
	struct buf b = BUF_INIT(1 << 16);
	char wide[1000];

	memset(wide, 'y', sizeof(wide) - 1);
	wide[sizeof(wide) - 1] = '\0';
	buf_printf(&b, "%d-%s-", 7, "a");
	buf_printf(&b, "%s", wide);
	assert_int_equal(b.len, 4 + 999);
	buf_consume(&b, 2);
	assert_memory_equal(b.data, "a-yy", 4);
	buf_fini(&b);
}

static const struct {
	const char *text;
	const char *json;
} strings[] = {
	{ "plain", "\"plain\"" },
	{ "a\"b\\c", "\"a\\\"b\\\\c\"" },
	{ "\n\r\t\b\f\x01\x7f", "\"\\n\\r\\t\\b\\f\\u0001\\u007f\"" },
	{ "gr\xc3\xbc\xc3\x9f \xe7\x95\x8c \xf0\x9f\x98\x80",
	    "\"gr\xc3\xbc\xc3\x9f \xe7\x95\x8c \xf0\x9f\x98\x80\"" },
	{ "\xff\xc3", "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
	{ "\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
};

static void
json_strings_are_always_valid(void **state UNUSED)
{
	struct buf b = BUF_INIT(1 << 16);
	size_t i;

	for (i = 0; i < ARRAY_LEN(strings); i++) {
		buf_clear(&b);
		buf_json_string(&b, strings[i].text, strlen(strings[i].text));
		assert_string_equal(buf_string(&b), strings[i].json);
	}
	buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(appending_stops_at_the_maximum_and_says_so),
		cmocka_unit_test(printf_and_consume),
		cmocka_unit_test(json_strings_are_always_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
