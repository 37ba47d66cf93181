/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/attr.h"
#include "worker/json/json.h"
#include "worker/relay/usage.h"

static void
tokens_are_counted_in_every_dialect(void **state UNUSED)
{
	static const struct {
		const char *text;
		bool found;
		int64_t n[TOKENS_MAX]; /* in, out, cached, write, think, all */
	} rows[] = {
		{ "{\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":6,"
		  "\"total_tokens\":16,"
		  "\"prompt_tokens_details\":{\"cached_tokens\":4},"
		  "\"completion_tokens_details\":{\"reasoning_tokens\":5}}}",
		    true, { 10, 6, 4, -1, 5, 16 } },
		{ "{\"id\":1,\"usage\":{\"input_tokens\":3085,"
		  "\"output_tokens\":253,\"cache_read_input_tokens\":7,"
		  "\"cache_creation_input_tokens\":19514}}",
		    true, { 3085, 253, 7, 19514, -1, 22859 } },
		{ "{\"usage\":{\"input_tokens\":100,\"output_tokens\":20,"
		  "\"input_tokens_details\":{\"cached_tokens\":30},"
		  "\"total_tokens\":120}}",
		    true, { 100, 20, 30, -1, -1, 120 } },
		{ "{\"usageMetadata\":{\"promptTokenCount\":10,"
		  "\"candidatesTokenCount\":2,\"thoughtsTokenCount\":3,"
		  "\"toolUsePromptTokenCount\":5,\"totalTokenCount\":20}}",
		    true, { 15, 2, -1, -1, 3, 20 } },
		{ "{\"usage\":{\"input_tokens\":-4,\"output_tokens\":1.5}}",
		    true, { -1, -1, -1, -1, -1, 0 } },
		{ "{\"usage\":null}", false, { -1, -1, -1, -1, -1, -1 } },
		{ "{\"deep\":{\"usage\":{\"input_tokens\":1}}}", false,
		    { -1, -1, -1, -1, -1, -1 } },
		{ "[1]", false, { -1, -1, -1, -1, -1, -1 } },
		{ "{\"usage\":{\"input_tokens\":1}", false,
		    { 1, -1, -1, -1, -1, -1 } },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct usage_tokens t;

		assert_int_equal(
		    usage_tokens_read(&t, rows[i].text, strlen(rows[i].text)),
		    rows[i].found);
		for (int k = 0; k < TOKENS_MAX; k++)
			assert_int_equal(t.n[k], rows[i].n[k]);
	}
}

static void
record_is_one_line_of_json_with_every_member(void **state UNUSED)
{
	static const char *const members[] = { "\"time\":\"20",
		"\"request_id\":\"id-1\"", "\"attempt\":2",
		"\"dialect\":\"claude\"", "\"provider\":\"claude\"",
		"\"model\":\"a\\\"b\\n\"", "\"upstream_model\":\"up\"",
		"\"credential\":\"c.json\"", "\"client\":null",
		"\"session\":\"claude:1...\"", "\"stream\":true",
		"\"status\":null", "\"failed\":true", "\"outcome\":\"network\"",
		"\"error\":\"gone\"", "\"latency_ms\":1.500",
		"\"ttft_ms\":null", "\"tokens\":null" };
	struct worker w = { .access_fd = -1 };
	struct exchange x = { .worker = &w, .request_id = "id-1" };
	struct usage_record r = { .attempt = 2,
		.provider = "claude",
		.model = "a\"b\n",
		.upstream_model = "up",
		.credential = "c.json",
		.session = "claude:1...",
		.stream = true,
		.end = ATTEMPT_NETWORK,
		.error = "gone",
		.latency_us = 1500,
		.ttft_us = -1 };
	struct json_reader reader;
	char line[4096];
	int fds[2];
	ssize_t n;

	assert_int_equal(pipe(fds), 0);
	w.usage_fd = fds[1];
	x.route.dialect = DIALECT_CLAUDE;
	usage_write(&x, &r);
	n = read(fds[0], line, sizeof(line) - 1);
	assert_true(n > 0);
	line[n] = '\0';
	assert_ptr_equal(strchr(line, '\n'), line + n - 1);
	json_reader_init(&reader, line, (size_t)n);
	assert_true(json_read(&reader, NULL));
	assert_int_equal(json_finish(&reader), JSON_OK);
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		assert_non_null(strstr(line, members[i]));
	close(fds[0]);
	close(fds[1]);
}

static void
nothing_is_written_where_no_log_is_open(void **state UNUSED)
{
	struct worker w = { .usage_fd = -1 };
	struct exchange x = { .worker = &w };
	struct usage_record r = { .provider = "" };

	usage_write(&x, &r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_are_counted_in_every_dialect),
		cmocka_unit_test(record_is_one_line_of_json_with_every_member),
		cmocka_unit_test(nothing_is_written_where_no_log_is_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
