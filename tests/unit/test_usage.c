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
		cmocka_unit_test(record_is_one_line_of_json_with_every_member),
		cmocka_unit_test(nothing_is_written_where_no_log_is_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
