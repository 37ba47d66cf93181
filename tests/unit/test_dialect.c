/* SPDX-License-Identifier: MIT */
/* What fairlead itself says in each dialect: errors, events, pings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/dialect/dialect.h"

static const char *
body_of(struct buf *b, enum dialect d, const struct dialect_error *e)
{
	buf_clear(b);
	dialect_error_body(b, d, e);
	return buf_string(b);
}

static const char *
event_of(struct buf *b, enum dialect d, const struct dialect_error *e,
    uint64_t sequence, bool codex)
{
	buf_clear(b);
	dialect_error_event(b, d, e, sequence, codex);
	return buf_string(b);
}

static const struct dialect_error cooldown = {
	.status = 429,
	.code = "model_cooldown",
	.message = "all \"m\" cool for 5 s",
	.request_id = "r1",
};

static void
bodies_have_the_shape_of_their_dialect(void **state)
{
	struct buf b = BUF_INIT(65536);

	(void)state;
	assert_string_equal(body_of(&b, DIALECT_OPENAI, &cooldown),
	    "{\"error\":{\"message\":\"all \\\"m\\\" cool for 5 s\","
	    "\"type\":\"rate_limit_error\",\"param\":null,"
	    "\"code\":\"model_cooldown\"}}");
	assert_string_equal(body_of(&b, DIALECT_RESPONSES, &cooldown),
	    "{\"error\":{\"message\":\"all \\\"m\\\" cool for 5 s\","
	    "\"type\":\"rate_limit_error\",\"param\":null,"
	    "\"code\":\"model_cooldown\"}}");
	assert_string_equal(body_of(&b, DIALECT_CLAUDE, &cooldown),
	    "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\","
	    "\"message\":\"all \\\"m\\\" cool for 5 s\"},"
	    "\"request_id\":\"r1\"}");
	assert_string_equal(body_of(&b, DIALECT_GEMINI, &cooldown),
	    "{\"error\":{\"code\":429,"
	    "\"message\":\"all \\\"m\\\" cool for 5 s\","
	    "\"status\":\"RESOURCE_EXHAUSTED\"}}");
	buf_fini(&b);
}

static void
events_have_the_shape_of_their_dialect(void **state)
{
	struct buf b = BUF_INIT(65536);
	struct dialect_error e = cooldown;

	(void)state;
	e.message = "no";
	assert_string_equal(event_of(&b, DIALECT_OPENAI, &e, 0, false),
	    "data: {\"error\":{\"message\":\"no\",\"type\":"
	    "\"rate_limit_error\",\"param\":null,"
	    "\"code\":\"model_cooldown\"}}\n\n");
	assert_string_equal(event_of(&b, DIALECT_CLAUDE, &e, 0, false),
	    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
	    "\"rate_limit_error\",\"message\":\"no\"},"
	    "\"request_id\":\"r1\"}\n\n");
	assert_string_equal(event_of(&b, DIALECT_GEMINI, &e, 0, false),
	    "data: {\"error\":{\"code\":429,\"message\":\"no\","
	    "\"status\":\"RESOURCE_EXHAUSTED\"}}\r\n\r\n");
	assert_string_equal(event_of(&b, DIALECT_RESPONSES, &e, 12, false),
	    "event: error\ndata: {\"type\":\"error\","
	    "\"code\":\"model_cooldown\",\"message\":\"no\","
	    "\"param\":null,\"sequence_number\":12}\n\n");
	assert_string_equal(event_of(&b, DIALECT_RESPONSES, &e, 12, true),
	    "event: response.failed\ndata: {\"type\":\"response.failed\","
	    "\"sequence_number\":12,\"response\":{\"object\":\"response\","
	    "\"status\":\"failed\",\"error\":{"
	    "\"type\":\"rate_limit_error\",\"code\":\"model_cooldown\","
	    "\"message\":\"no\"}}}\n\n");
	buf_fini(&b);
}

static void
codex_is_never_told_to_give_up(void **state)
{
	static const char *const codes[] = { "server_is_overloaded",
		"SLOW_DOWN" };
	struct dialect_error e = { .status = 503 };
	struct buf b = BUF_INIT(65536);
	const char *text;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(codes); i++) {
		e.code = codes[i];
		text = event_of(&b, DIALECT_RESPONSES, &e, 1, true);
		assert_null(strstr(text, codes[i]));
		assert_non_null(strstr(text, "\"code\":\"server_error\""));
	}
	e.status = 400;
	e.code = NULL;
	text = event_of(&b, DIALECT_RESPONSES, &e, 1, true);
	assert_non_null(strstr(text, "\"code\":null"));
	buf_fini(&b);
}

static void
each_status_has_its_names(void **state)
{
	static const struct {
		int status;
		const char *phrase;
		const char *openai;
		const char *claude;
		const char *gemini;
	} rows[] = {
		{ 400, "Bad Request", "invalid_request_error",
		    "invalid_request_error", "INVALID_ARGUMENT" },
		{ 401, "Unauthorized", "authentication_error",
		    "authentication_error", "UNAUTHENTICATED" },
		{ 402, "Payment Required", "invalid_request_error",
		    "billing_error", "FAILED_PRECONDITION" },
		{ 403, "Forbidden", "permission_error", "permission_error",
		    "PERMISSION_DENIED" },
		{ 404, "Not Found", "invalid_request_error", "not_found_error",
		    "NOT_FOUND" },
		{ 405, "Method Not Allowed", "invalid_request_error",
		    "invalid_request_error", "INVALID_ARGUMENT" },
		{ 413, "Content Too Large", "invalid_request_error",
		    "request_too_large", "INVALID_ARGUMENT" },
		{ 418, "Error", "invalid_request_error",
		    "invalid_request_error", "INVALID_ARGUMENT" },
		{ 429, "Too Many Requests", "rate_limit_error",
		    "rate_limit_error", "RESOURCE_EXHAUSTED" },
		{ 500, "Internal Server Error", "server_error", "api_error",
		    "INTERNAL" },
		{ 502, "Bad Gateway", "server_error", "api_error", "INTERNAL" },
		{ 503, "Service Unavailable", "server_error", "api_error",
		    "UNAVAILABLE" },
		{ 504, "Gateway Timeout", "server_error", "timeout_error",
		    "DEADLINE_EXCEEDED" },
		{ 529, "Overloaded", "server_error", "overloaded_error",
		    "UNAVAILABLE" },
		{ 599, "Error", "server_error", "api_error", "INTERNAL" },
	};
	struct buf b = BUF_INIT(65536);
	struct dialect_error e;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		e = (struct dialect_error){ .status = rows[i].status };
		assert_string_equal(
		    dialect_status_phrase(rows[i].status), rows[i].phrase);
		assert_non_null(
		    strstr(body_of(&b, DIALECT_OPENAI, &e), rows[i].openai));
		assert_non_null(strstr(buf_string(&b), rows[i].phrase));
		assert_non_null(
		    strstr(body_of(&b, DIALECT_CLAUDE, &e), rows[i].claude));
		assert_non_null(
		    strstr(body_of(&b, DIALECT_GEMINI, &e), rows[i].gemini));
	}
	buf_fini(&b);
}

static void
messages_are_escaped(void **state)
{
	struct dialect_error e = { .status = 400,
		.message = "a\"b\\c\n\x01\xff\xc3\xa9" };
	struct buf b = BUF_INIT(65536);

	(void)state;
	assert_non_null(strstr(body_of(&b, DIALECT_GEMINI, &e),
	    "\"a\\\"b\\\\c\\n\\u0001\xef\xbf\xbd\xc3\xa9\""));
	e.code = "a\"b";
	assert_non_null(
	    strstr(body_of(&b, DIALECT_OPENAI, &e), "\"code\":\"a\\\"b\""));
	buf_fini(&b);
}

static void
messages_are_cut_between_characters(void **state)
{
	static char message[DIALECT_MESSAGE_MAX + 10];
	struct dialect_error e = { .status = 400, .message = message };
	struct buf b = BUF_INIT(65536);

	(void)state;
	memset(message, 'x', sizeof(message) - 1);
	memcpy(message + DIALECT_MESSAGE_MAX - 1, "\xc3\xa9", 2);
	body_of(&b, DIALECT_GEMINI, &e);
	assert_null(strstr(buf_string(&b), "\xc3"));
	assert_null(strstr(buf_string(&b), "\xef\xbf\xbd"));
	assert_non_null(strstr(buf_string(&b), "x\",\"status\""));
	assert_true(b.len < DIALECT_MESSAGE_MAX + 100);

	memset(message, 'x', sizeof(message) - 1);
	message[DIALECT_MESSAGE_MAX] = '\0';
	body_of(&b, DIALECT_GEMINI, &e);
	assert_true(b.len > DIALECT_MESSAGE_MAX);
	buf_fini(&b);
}

static void
secrets_are_left_out_of_messages(void **state)
{
	static const struct {
		const char *message;
		const char *want;
	} rows[] = {
		{ "Incorrect API key provided: sk-proj-abc123DEF456.",
		    "Incorrect API key provided: sk-***" },
		{ "sk-ant-oat01-aaaaaaaa bbb", "sk-*** bbb" },
		{ "Bearer abcdefgh12345678, no", "Bearer ***, no" },
		{ "?key=AIzaSyA1234567890 x", "?key=AIza*** x" },
		{ "(AIzaSyA1234567890)", "(AIza***)" },
		{ "eyJhbGciOi.eyJzdWIi.c2ln", "eyJ***" },
		{ "sk-short", "sk-short" },
		{ "risk-adjusted-return", "risk-adjusted-return" },
		{ "Bearer", "Bearer" },
	};
	struct dialect_error e = { .status = 401 };
	struct buf b = BUF_INIT(65536);
	struct buf want = BUF_INIT(65536);
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		e.message = rows[i].message;
		buf_clear(&want);
		buf_printf(&want, "\"message\":\"%s\"", rows[i].want);
		assert_non_null(
		    strstr(body_of(&b, DIALECT_CLAUDE, &e), buf_string(&want)));
	}
	buf_fini(&b);
	buf_fini(&want);
}

static void
errors_of_upstreams_have_a_status(void **state)
{
	static const struct {
		const char *code;
		const char *type;
		const char *status;
		const char *message;
		int want;
	} rows[] = {
		{ "", "overloaded_error", "", "", 529 },
		{ "", "rate_limit_error", "", "", 429 },
		{ "", "api_error", "", "", 500 },
		{ "", "authentication_error", "", "", 401 },
		{ "", "permission_error", "", "", 403 },
		{ "", "invalid_request_error", "", "", 400 },
		{ "rate_limit_exceeded", "invalid_request_error", "", "", 429 },
		{ "usage_limit_reached", "", "", "", 429 },
		{ "server_is_overloaded", "", "", "", 503 },
		{ "server_error", "", "", "", 503 },
		{ "context_length_exceeded", "", "", "", 400 },
		{ "429", "", "RESOURCE_EXHAUSTED", "", 429 },
		{ "503", "server_error", "", "", 503 },
		{ "200", "rate_limit_error", "", "", 429 },
		{ "1302", "", "", "", 502 },
		{ "42x", "", "", "", 502 },
		{ "", "", "UNAVAILABLE", "", 503 },
		{ "", "", "unavailable", "", 503 },
		{ "", "", "", "Model is at capacity.", 429 },
		{ "", "", "", "Rate limit hit", 429 },
		{ "", "", "", "", 502 },
		{ "strange", "stranger", "STRANGE", "no", 502 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(
		    dialect_error_status(rows[i].code, rows[i].type,
			rows[i].status, rows[i].message),
		    rows[i].want);
}

static void
keepalives_are_safe_for_all_clients(void **state)
{
	static const char *const want[DIALECT_MAX] = {
		[DIALECT_OPENAI] = ": keep-alive\n\n",
		[DIALECT_RESPONSES] = ": keep-alive\n\n",
		[DIALECT_CLAUDE] =
		    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
		[DIALECT_GEMINI] = "\r\n",
	};
	struct span s;
	int d;

	(void)state;
	for (d = 0; d < DIALECT_MAX; d++) {
		s = dialect_keepalive((enum dialect)d);
		assert_int_equal(s.len, strlen(want[d]));
		assert_memory_equal(s.p, want[d], s.len);
	}
	assert_string_equal(dialect_stream_type(), "text/event-stream");
}

static void
dialects_have_names(void **state)
{
	(void)state;
	assert_string_equal(dialect_name(DIALECT_OPENAI), "openai");
	assert_string_equal(dialect_name(DIALECT_RESPONSES), "responses");
	assert_string_equal(dialect_name(DIALECT_CLAUDE), "claude");
	assert_string_equal(dialect_name(DIALECT_GEMINI), "gemini");
}

static void
codex_is_known_by_its_headers(void **state)
{
	struct span none = { NULL, 0 };

	(void)state;
	assert_true(
	    dialect_client_is_codex(SPAN("codex_exec/0.169.0 (Debian)"), none));
	assert_true(dialect_client_is_codex(none, SPAN("codex_cli_rs")));
	assert_true(
	    dialect_client_is_codex(SPAN("other/1"), SPAN("Codex Desktop")));
	assert_false(dialect_client_is_codex(
	    SPAN("opencode/1.18.33"), SPAN("opencode")));
	assert_false(dialect_client_is_codex(none, none));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bodies_have_the_shape_of_their_dialect),
		cmocka_unit_test(events_have_the_shape_of_their_dialect),
		cmocka_unit_test(codex_is_never_told_to_give_up),
		cmocka_unit_test(each_status_has_its_names),
		cmocka_unit_test(messages_are_escaped),
		cmocka_unit_test(messages_are_cut_between_characters),
		cmocka_unit_test(secrets_are_left_out_of_messages),
		cmocka_unit_test(errors_of_upstreams_have_a_status),
		cmocka_unit_test(keepalives_are_safe_for_all_clients),
		cmocka_unit_test(dialects_have_names),
		cmocka_unit_test(codex_is_known_by_its_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
