/* SPDX-License-Identifier: MIT */
#include "master/control/control.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "master/control/control_verbs.h"

static const struct {
	const char *line;
	int rc;
	const char *verb;
	size_t nargs;
	const char *last;
} lines[] = {
	{ "{\"verb\":\"status\"}", 0, "status", 0, NULL },
	{ "{\"verb\":\"status\",\"args\":[]}", 0, "status", 0, NULL },
	{ "{\"verb\":\"credential\",\"args\":[\"a\",\"reset\"]}", 0,
	    "credential", 2, "reset" },
	{ "{\"args\":[\"x\"],\"verb\":\"v\",\"more\":1}", 0, "v", 1, "x" },
	{ "", -EINVAL, NULL, 0, NULL },
	{ "GET / HTTP/1.1\r", -EINVAL, NULL, 0, NULL },
	{ "{", -EINVAL, NULL, 0, NULL },
	{ "[]", -EINVAL, NULL, 0, NULL },
	{ "\"status\"", -EINVAL, NULL, 0, NULL },
	{ "{\"verb\":1}", -EINVAL, NULL, 0, NULL },
	{ "{\"args\":[]}", -EINVAL, NULL, 0, NULL },
	{ "{\"verb\":\"v\",\"args\":[1]}", -EINVAL, NULL, 0, NULL },
	{ "{\"verb\":\"v\",\"args\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\","
	  "\"7\",\"8\",\"9\"]}",
	    -EINVAL, NULL, 0, NULL },
};

static void
requests_are_read_or_refused(void **state UNUSED)
{
	struct control_request r;
	cJSON *parsed;
	size_t i;

	for (i = 0; i < ARRAY_LEN(lines); i++) {
		if (control_parse(lines[i].line, strlen(lines[i].line), &parsed,
			&r) != lines[i].rc)
			fail_msg("%s", lines[i].line);
		if (lines[i].rc < 0) {
			assert_null(parsed);
			continue;
		}
		assert_string_equal(r.verb, lines[i].verb);
		assert_int_equal(r.nargs, lines[i].nargs);
		if (r.nargs > 0)
			assert_string_equal(r.args[r.nargs - 1], lines[i].last);
		cJSON_Delete(parsed);
	}
}

static void
deep_nesting_is_refused(void **state UNUSED)
{
	char line[CONTROL_REQUEST_MAX];
	struct control_request r;
	cJSON *parsed;

	memset(line, '[', sizeof(line));
	assert_int_equal(
	    control_parse(line, sizeof(line), &parsed, &r), -EINVAL);
}

static void
verbs_are_unique_and_take_what_a_request_can_hold(void **state UNUSED)
{
	const struct control_verb *v, *other;

	for (v = control_verbs; v < control_verbs + control_verbs_len; v++) {
		assert_true(v->min_args <= v->max_args);
		assert_true(v->max_args <= CONTROL_ARGS_MAX);
		assert_non_null(v->run);
		for (other = control_verbs; other < v; other++)
			assert_string_not_equal(v->name, other->name);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_read_or_refused),
		cmocka_unit_test(deep_nesting_is_refused),
		cmocka_unit_test(
		    verbs_are_unique_and_take_what_a_request_can_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
