/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "worker/relay/retry_after.h"

enum {
	NOW_S = 1000000000, /* Sun, 09 Sep 2001 01:46:40 GMT */
	MAX_MS = 24 * 3600 * 1000
};

static void
dates_are_read_in_all_three_forms(void **state UNUSED)
{
	static const struct {
		const char *text;
		int64_t at_s; /* -1: bad */
	} rows[] = {
		{ "Sun, 06 Nov 1994 08:49:37 GMT", 784111777 },
		{ "Sunday, 06-Nov-94 08:49:37 GMT", 784111777 },
		{ "Sun Nov  6 08:49:37 1994", 784111777 },
		{ "Sun, 09 Sep 2001 01:46:40 GMT", NOW_S },
		{ "Sun, 06 Nov 1994 08:49:37 GMT!", -1 },
		{ "Sun, 06 Nov 1994 08:49:37 CET", -1 },
		{ "Sun, 06 Nov 1994", -1 },
		{ "", -1 },
		{ "12", -1 },
		{ "Sunday, 06-November-nineteen-ninety-four 08:49:37 GMT", -1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t at_s = -1;

		assert_int_equal(http_date_read(span_of(rows[i].text), &at_s),
		    rows[i].at_s < 0 ? HTTP_DATE_BAD : 0);
		assert_int_equal(at_s, rows[i].at_s);
	}
}

static void
delay_is_read_from_whatever_header_says_it(void **state UNUSED)
{
	static const struct {
		const char *retry_after, *ms, *date;
		int64_t wanted_ms;
	} rows[] = {
		{ "7", "", "", 7000 },
		{ "0", "", "", 0 },
		{ "0.5", "", "", 500 },
		{ "2.0001", "", "", 2001 },
		{ "1.9999999999999999999", "", "", 2000 },
		{ "2.", "", "", 2000 },
		{ "", "700", "", 700 },
		{ "", "700.05", "", 701 },
		{ "9", "700", "", 700 },
		{ "9", "soon", "", 9000 },
		{ "86401", "", "", MAX_MS },
		{ "99999999999999999999999999", "", "", MAX_MS },
		{ "Sun, 09 Sep 2001 01:47:10 GMT", "", "", 30000 },
		{ "Sun, 09 Sep 2001 01:46:10 GMT", "", "", RETRY_AFTER_NONE },
		{ "Sun, 09 Sep 2001 01:46:40 GMT", "", "", RETRY_AFTER_NONE },
		/* The answer's clock is a day late, and so is its date. */
		{ "Sat, 08 Sep 2001 01:47:10 GMT", "",
		    "Sat, 08 Sep 2001 01:46:40 GMT", 30000 },
		{ "Sun, 09 Sep 2001 01:47:10 GMT", "", "nonsense", 30000 },
		{ "Sun, 09 Sep 2091 01:46:40 GMT", "", "", MAX_MS },
		{ "", "", "", RETRY_AFTER_NONE },
		{ "-5", "", "", RETRY_AFTER_NONE },
		{ "5s", "", "", RETRY_AFTER_NONE },
		{ "1e3", "", "", RETRY_AFTER_NONE },
		{ ".5", "", "", RETRY_AFTER_NONE },
		{ "1.2.3", "", "", RETRY_AFTER_NONE },
		{ "+5", "", "", RETRY_AFTER_NONE },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct retry_after_fields f = {
			.retry_after = span_of(rows[i].retry_after),
			.retry_after_ms = span_of(rows[i].ms),
			.date = span_of(rows[i].date),
		};

		assert_int_equal(
		    retry_after_read(&f, NOW_S, MAX_MS), rows[i].wanted_ms);
	}
}

static void
absent_headers_are_empty_spans_of_any_kind(void **state UNUSED)
{
	struct retry_after_fields f = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };

	assert_int_equal(retry_after_read(&f, NOW_S, MAX_MS), RETRY_AFTER_NONE);
}

static void
times_of_unix_become_durations(void **state UNUSED)
{
	assert_int_equal(retry_after_until(NOW_S + 5, NOW_S, MAX_MS), 5000);
	assert_int_equal(
	    retry_after_until(NOW_S, NOW_S, MAX_MS), RETRY_AFTER_NONE);
	assert_int_equal(retry_after_until(INT64_MAX, NOW_S, MAX_MS), MAX_MS);
	assert_int_equal(
	    retry_after_until(-1, NOW_S, MAX_MS), RETRY_AFTER_NONE);
}

struct fake_header {
	const char *name, *value;
};

static struct span
on_header(void *ctx, const char *name)
{
	const struct fake_header *h = ctx;

	for (; h->name != NULL; h++)
		if (strcmp(h->name, name) == 0)
			return span_of(h->value);
	return (struct span){ "", 0 };
}

#define DATE                                                                   \
	{                                                                      \
		"date", "Sun, 09 Sep 2001 01:46:40 GMT"                        \
	}
#define W(w, what) "anthropic-ratelimit-unified-" w what

static void
one_hint_is_made_of_all_that_an_answer_says(void **state UNUSED)
{
	static const struct {
		struct fake_header headers[8];
		int64_t delay_ms, resets_at_s;
		int64_t wanted_ms;
		bool window, account;
	} rows[] = {
		{ { { NULL, NULL } }, -1, -1, RETRY_AFTER_NONE, false, false },
		{ { { "retry-after", "5" } }, 9000, -1, 5000, false, false },
		{ { { NULL, NULL } }, 9000, NOW_S + 4, 9000, false, false },
		{ { { NULL, NULL } }, -1, NOW_S + 4, 4000, false, false },
		{ { { NULL, NULL } }, MAX_MS * INT64_C(2), -1, MAX_MS, false,
		    false },
		/* The answer's own clock, here a day behind ours. */
		{ { { "date", "Sat, 08 Sep 2001 01:46:40 GMT" } }, -1,
		    NOW_S - 86400 + 7, 7000, false, false },
		/* Limits that are used up. */
		{ { { "x-ratelimit-reset-requests", "20ms" },
		      { "x-ratelimit-reset-tokens", "6m0s" } },
		    -1, -1, 360000, false, false },
		{ { { "x-ratelimit-remaining-requests", "0" },
		      { "x-ratelimit-reset-requests", "2m59.56s" },
		      { "x-ratelimit-remaining-tokens", "199" },
		      { "x-ratelimit-reset-tokens", "24h" } },
		    -1, -1, 179560, false, false },
		{ { { "x-ratelimit-reset", "1000000012" } }, -1, -1, 12000,
		    false, false },
		{ { { "x-ratelimit-reset", "1000000012000" } }, -1, -1, 12000,
		    false, false },
		{ { { "x-ratelimit-reset", "12" } }, 1, -1, 12000, false,
		    false },
		{ { { "retry-after", "3" },
		      { "x-ratelimit-reset-tokens", "6m0s" } },
		    -1, -1, 3000, false, false },
		/* Windows of a subscription. */
		{ { DATE, { W("5h", "-status"), "rejected" },
		      { W("5h", "-reset"), "1000000090" },
		      { W("7d", "-status"), "allowed" },
		      { W("7d", "-reset"), "1000500000" },
		      { W("", "status"), "rejected" },
		      { W("", "reset"), "1000000080" } },
		    -1, -1, 90000, true, true },
		{ { DATE, { "retry-after", "120" },
		      { W("7d", "-status"), "rejected" },
		      { W("7d", "-reset"), "1000000090" } },
		    -1, -1, 120000, true, true },
		{ { DATE, { W("7d_oi", "-status"), "rejected" },
		      { W("7d_oi", "-reset"), "1000000050" },
		      { W("", "status"), "rejected" },
		      { W("", "reset"), "1000000050" } },
		    -1, -1, 50000, true, false },
		{ { DATE, { W("", "status"), "rejected" },
		      { W("", "reset"), "1000000060" } },
		    -1, -1, 60000, true, true },
		{ { DATE, { W("", "status"), "allowed_warning" },
		      { W("", "reset"), "1000000060" } },
		    -1, -1, RETRY_AFTER_NONE, false, false },
		{ { DATE, { W("5h", "-status"), "rejected" } }, -1, -1,
		    RETRY_AFTER_NONE, false, true },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fake_header headers[8];
		struct retry_source source = { .header = on_header,
			.ctx = headers,
			.delay_ms = rows[i].delay_ms,
			.resets_at_s = rows[i].resets_at_s,
			.now_s = NOW_S,
			.max_ms = MAX_MS };
		struct retry_hint hint;

		memcpy(headers, rows[i].headers, sizeof(headers));
		hint = retry_hint_read(&source);
		assert_int_equal(hint.ms, rows[i].wanted_ms);
		assert_int_equal(hint.window, rows[i].window);
		assert_int_equal(hint.account, rows[i].account);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_hint_is_made_of_all_that_an_answer_says),
		cmocka_unit_test(dates_are_read_in_all_three_forms),
		cmocka_unit_test(delay_is_read_from_whatever_header_says_it),
		cmocka_unit_test(absent_headers_are_empty_spans_of_any_kind),
		cmocka_unit_test(times_of_unix_become_durations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
