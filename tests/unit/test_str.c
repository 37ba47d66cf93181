/* SPDX-License-Identifier: MIT */
#include "common/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct {
	const char *text;
	int rc;
	int64_t ms;
	const char *shown;
} durations[] = {
	{ "1h", 0, 3600000, "1h" },
	{ "60m", 0, 3600000, "1h" },
	{ "1h30m", 0, 5400000, "1h30m" },
	{ "90s", 0, 90000, "1m30s" },
	{ "500ms", 0, 500, "500ms" },
	{ "2d", 0, 172800000, "48h" },
	{ "0s", 0, 0, "0s" },
	{ "7", 0, 7000, "7s" },
	{ "", -EINVAL, 0, "" },
	{ "h", -EINVAL, 0, "" },
	{ "1x", -EINVAL, 0, "" },
	{ "1h5", -EINVAL, 0, "" },
	{ "-1s", -EINVAL, 0, "" },
	{ "1.5h", -EINVAL, 0, "" },
	{ "9223372036854775807h", -ERANGE, 0, "" },
	{ "99999999999999999999s", -ERANGE, 0, "" },
};

static void
durations_read_and_show(void **state UNUSED)
{
	char shown[64];
	int64_t ms;
	size_t i;

	for (i = 0; i < ARRAY_LEN(durations); i++) {
		if (str_to_duration_ms(durations[i].text, &ms) !=
		    durations[i].rc)
			fail_msg("\"%s\"", durations[i].text);
		if (durations[i].rc < 0)
			continue;
		assert_int_equal(ms, durations[i].ms);
		str_from_duration_ms(ms, shown, sizeof(shown));
		assert_string_equal(shown, durations[i].shown);
	}
}

static const struct {
	const char *text;
	int rc;
	int64_t bytes;
	const char *shown;
} sizes[] = {
	{ "64M", 0, 64 << 20, "64M" },
	{ "1024K", 0, 1 << 20, "1M" },
	{ "4G", 0, 4LL << 30, "4G" },
	{ "1000", 0, 1000, "1000" },
	{ "64MB", -EINVAL, 0, "" },
	{ "M", -EINVAL, 0, "" },
	{ "9999999999999G", -ERANGE, 0, "" },
};

static void
sizes_read_and_show(void **state UNUSED)
{
	char shown[64];
	int64_t bytes;
	size_t i;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		if (str_to_size(sizes[i].text, &bytes) != sizes[i].rc)
			fail_msg("\"%s\"", sizes[i].text);
		if (sizes[i].rc < 0)
			continue;
		assert_int_equal(bytes, sizes[i].bytes);
		str_from_size(bytes, shown, sizeof(shown));
		assert_string_equal(shown, sizes[i].shown);
	}
}

static void
spans_compare_and_trim(void **state UNUSED)
{
	assert_true(span_equal_nocase(SPAN("Gzip"), SPAN("gzip")));
	assert_false(span_equal(SPAN("Gzip"), SPAN("gzip")));
	assert_true(span_equal(span_trim(SPAN(" \t a b\t")), SPAN("a b")));
	assert_int_equal(span_trim(SPAN("  ")).len, 0);
	assert_true(span_starts(SPAN("abc"), SPAN("ab")));
	assert_false(span_starts(SPAN("a"), SPAN("ab")));
}

static void
copies_are_cut_and_terminated(void **state UNUSED)
{
	char dst[4];

	assert_true(str_copy(dst, sizeof(dst), "abc"));
	assert_false(str_copy(dst, sizeof(dst), "abcd"));
	assert_string_equal(dst, "abc");
}

static void
hexadecimal_goes_both_ways(void **state UNUSED)
{
	static const char *const bad[] = { "0", "0g", "AB", "00112233", " 0" };
	unsigned char bytes[3];
	char text[7];
	size_t i;

	assert_int_equal(str_unhex("00ff1a", bytes, sizeof(bytes)), 3);
	str_hex(bytes, sizeof(bytes), text);
	assert_string_equal(text, "00ff1a");
	assert_int_equal(str_unhex("", bytes, sizeof(bytes)), 0);
	for (i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
		    str_unhex(bad[i], bytes, sizeof(bytes)), -EINVAL);
}

static void
days_are_told_from_what_is_none(void **state UNUSED)
{
	static const char *const none[] = { "", "2026", "2026-1-2",
		"2026-13-01", "2026-01-32", "2026-01-01x", "2026-01-011",
		" 2026-01-0", "yesterday" };

	assert_true(str_is_day("2026-01-31"));
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		assert_false(str_is_day(none[i]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hexadecimal_goes_both_ways),
		cmocka_unit_test(durations_read_and_show),
		cmocka_unit_test(sizes_read_and_show),
		cmocka_unit_test(spans_compare_and_trim),
		cmocka_unit_test(copies_are_cut_and_terminated),
		cmocka_unit_test(days_are_told_from_what_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
