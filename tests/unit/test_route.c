/* SPDX-License-Identifier: MIT */
/* Which request is which endpoint, and what becomes of its query. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/client/route.h"

#define O DIALECT_OPENAI
#define R DIALECT_RESPONSES
#define C DIALECT_CLAUDE
#define G DIALECT_GEMINI

struct request {
	char text[2048];
	struct http_head head;
};

/* Parses a head made of a request line and further field lines. */
static const struct http_head *
request(struct request *r, const char *method, const char *target,
    const char *fields)
{
	int len = snprintf(r->text, sizeof(r->text),
	    "%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n", method, target, fields);

	assert_true(len > 0 && (size_t)len < sizeof(r->text));
	http_head_init(&r->head);
	assert_int_equal(
	    http_head_parse(&r->head, r->text, (size_t)len), HTTP_HEAD_DONE);
	return &r->head;
}

static enum route_result
match(const char *method, const char *target, struct route_match *m)
{
	struct request r;

	return route_match(request(&r, method, target, ""), m);
}

static void
requests_are_forwarded_as_operations(void **state)
{
	static const struct {
		const char *target;
		enum dialect dialect;
		enum operation operation;
		bool stream;
		const char *model;
	} rows[] = {
		{ "/v1/chat/completions", O, OPERATION_CHAT, false, "" },
		{ "/v1/completions", O, OPERATION_COMPLETIONS, false, "" },
		{ "/v1/embeddings", O, OPERATION_EMBEDDINGS, false, "" },
		{ "/v1/messages", C, OPERATION_MESSAGES, false, "" },
		{ "/v1/messages?beta=true", C, OPERATION_MESSAGES, false, "" },
		{ "http://h/v1/messages", C, OPERATION_MESSAGES, false, "" },
		{ "/v1/messages/count_tokens", C, OPERATION_COUNT_TOKENS, false,
		    "" },
		{ "/v1/responses", R, OPERATION_RESPONSES, false, "" },
		{ "/v1/responses/compact", R, OPERATION_COMPACT, false, "" },
		{ "/backend-api/codex/responses", R, OPERATION_RESPONSES, false,
		    "" },
		{ "/backend-api/codex/responses/compact", R, OPERATION_COMPACT,
		    false, "" },
		{ "/v1beta/models/m:generateContent", G, OPERATION_GENERATE,
		    false, "m" },
		{ "/v1beta/models/m:streamGenerateContent?alt=sse", G,
		    OPERATION_STREAM_GENERATE, true, "m" },
		{ "/v1beta/models/m:countTokens", G, OPERATION_GEMINI_COUNT,
		    false, "m" },
		{ "/v1/models/m:generateContent", G, OPERATION_GENERATE, false,
		    "m" },
	};
	struct route_match m;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(
		    match("POST", rows[i].target, &m), ROUTE_MATCH);
		assert_int_equal(m.row->kind, ROUTE_FORWARD);
		assert_int_equal(m.dialect, rows[i].dialect);
		assert_int_equal(m.row->operation, rows[i].operation);
		assert_int_equal(m.row->stream, rows[i].stream);
		assert_true(m.row->needs_key);
		assert_string_equal(m.model, rows[i].model);
		assert_int_equal(m.model_len, strlen(rows[i].model));
	}
}

static void
own_answers_have_their_paths(void **state)
{
	static const struct {
		const char *method;
		const char *target;
		enum route_kind kind;
		bool needs_key;
	} rows[] = {
		{ "GET", "/v1/models?limit=1000", ROUTE_MODELS, true },
		{ "GET", "/v1/models/m", ROUTE_MODEL, true },
		{ "GET", "/v1beta/models", ROUTE_MODELS, true },
		{ "GET", "/v1beta/models/m", ROUTE_MODEL, true },
		{ "GET", "/healthz", ROUTE_HEALTH, false },
		{ "HEAD", "/healthz", ROUTE_HEALTH, false },
		{ "GET", "/", ROUTE_BANNER, false },
		{ "HEAD", "/", ROUTE_PROBE, false },
		{ "HEAD", "/api/hello", ROUTE_PROBE, false },
		{ "GET", "http://h", ROUTE_BANNER, false },
	};
	struct route_match m;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(
		    match(rows[i].method, rows[i].target, &m), ROUTE_MATCH);
		assert_int_equal(m.row->kind, rows[i].kind);
		assert_int_equal(m.row->needs_key, rows[i].needs_key);
	}
}

static void
paths_match_literally(void **state)
{
	static const char *const targets[] = {
		"/v1/messages/",
		"/v1//messages",
		"//v1/messages",
		"/v1/./messages",
		"/v1/x/../messages",
		"/V1/messages",
		"/v1/messages%2f",
		"/v1/%6dessages",
		"/%76%31/messages",
		"/v1/messages;x",
		"/v1/messages/nothing",
		"/v1",
		"/v1beta",
		"/v1beta/models/",
		"/v1beta/models/:generateContent",
		"/v1beta/models/m:makeCoffee",
		"/v1beta/models/m:generateContent/",
		"/v1/models/m:makeCoffee",
		"/healthz/",
		"/api/hello/x",
		"/metrics",
	};
	struct route_match m;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(targets); i++) {
		assert_int_equal(
		    match("POST", targets[i], &m), ROUTE_NOT_FOUND);
		assert_null(m.row);
	}
}

static void
wrong_methods_are_told_the_right_ones(void **state)
{
	static const struct {
		const char *method;
		const char *target;
		const char *allow;
		enum dialect dialect;
	} rows[] = {
		{ "GET", "/v1/messages", "POST", C },
		{ "OPTIONS", "/v1/messages", "POST", C },
		{ "BREW", "/v1/messages", "POST", C },
		{ "GET", "/v1/responses", "POST", R },
		{ "DELETE", "/v1/chat/completions", "POST", O },
		{ "POST", "/v1/models", "GET", O },
		{ "POST", "/healthz", "GET, HEAD", O },
		{ "POST", "/", "GET, HEAD", O },
		{ "GET", "/api/hello", "HEAD", O },
		{ "GET", "/v1beta/models/m:generateContent", "POST", G },
		{ "POST", "/v1beta/models/m", "GET", G },
	};
	struct route_match m;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(match(rows[i].method, rows[i].target, &m),
		    ROUTE_NOT_ALLOWED);
		assert_string_equal(m.allow, rows[i].allow);
		assert_int_equal(m.dialect, rows[i].dialect);
	}
}

static void
websockets_are_sent_back_to_http(void **state)
{
	static const char upgrade[] =
	    "Connection: Upgrade\r\nUpgrade: websocket\r\n";
	struct route_match m;
	struct request r;

	(void)state;
	assert_int_equal(
	    route_match(request(&r, "GET", "/v1/responses", upgrade), &m),
	    ROUTE_UPGRADE);
	assert_int_equal(m.dialect, R);
	assert_int_equal(
	    route_match(
		request(&r, "GET", "/backend-api/codex/responses", upgrade),
		&m),
	    ROUTE_UPGRADE);
	assert_int_equal(
	    route_match(request(&r, "GET", "/v1/messages", upgrade), &m),
	    ROUTE_NOT_ALLOWED);
}

static void
model_ids_are_decoded(void **state)
{
	static const struct {
		const char *raw;
		const char *model;
	} rows[] = {
		{ "gemini-2.5-pro", "gemini-2.5-pro" },
		{ "team/m", "team/m" },
		{ "team%2Fm", "team/m" },
		{ "team%2fsub/m", "team/sub/m" },
		{ "qwen:7b", "qwen:7b" },
		{ "qwen%3A7b", "qwen:7b" },
		{ "m(high)", "m(high)" },
		{ "K%C3%B6ln-1", "K\xc3\xb6ln-1" },
		{ "a+b", "a+b" },
		{ "m%3AgenerateContent", "m:generateContent" },
	};
	char target[512];
	struct route_match m;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(target, sizeof(target),
		    "/v1beta/models/%s:generateContent", rows[i].raw);
		assert_int_equal(match("POST", target, &m), ROUTE_MATCH);
		assert_string_equal(m.model, rows[i].model);
		snprintf(
		    target, sizeof(target), "/v1beta/models/%s", rows[i].raw);
		assert_int_equal(match("GET", target, &m), ROUTE_MATCH);
		assert_int_equal(m.row->kind, ROUTE_MODEL);
		assert_string_equal(m.model, rows[i].model);
	}
}

static void
odd_model_ids_are_not_found(void **state)
{
	static const char *const raws[] = { "%", "%2", "%zz", "%-1", "a%00b",
		"a%0a", "a%20b", "a%7f", "a%3fb", "a%23", "a%25", "a%5cb",
		"a%ff", "%c3", "../m", "..%2fm", "a/..", "a/./b", "a//b", "/a",
		"a/", "%2e%2e/m", "." };
	char target[2 * ROUTE_MODEL_MAX];
	struct route_match m;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(raws); i++) {
		snprintf(target, sizeof(target),
		    "/v1beta/models/%s:generateContent", raws[i]);
		if (match("POST", target, &m) != ROUTE_NOT_FOUND)
			print_error("%s\n", target);
		assert_int_equal(match("POST", target, &m), ROUTE_NOT_FOUND);
		assert_int_equal(m.dialect, G);
	}
	memset(target, 'x', sizeof(target));
	memcpy(target, "/v1beta/models/", 15);
	target[15 + ROUTE_MODEL_MAX - 1] = '\0';
	assert_int_equal(match("GET", target, &m), ROUTE_MATCH);
	target[15 + ROUTE_MODEL_MAX - 1] = 'x';
	target[15 + ROUTE_MODEL_MAX] = '\0';
	assert_int_equal(match("GET", target, &m), ROUTE_NOT_FOUND);
}

static void
unknown_paths_are_refused_in_the_likely_dialect(void **state)
{
	static const struct {
		const char *target;
		const char *fields;
		enum dialect dialect;
	} rows[] = {
		{ "/nothing", "", O },
		{ "/v1/nothing", "", O },
		{ "/v1/messages/x", "", C },
		{ "/v1/responses/x", "", R },
		{ "/v1beta/x", "", G },
		{ "/x", "anthropic-version: 2023-06-01\r\n", C },
		{ "/x", "User-Agent: Claude-CLI/2.1.330\r\n", C },
		{ "/x", "User-Agent: curl\r\n", O },
		{ "/x", "x-goog-api-key: k\r\n", G },
		{ "/x", "x-goog-api-client: k\r\n", G },
		{ "/x", "anthropic-version:\r\n", O },
	};
	struct route_match m;
	struct request r;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(route_match(request(&r, "POST", rows[i].target,
						 rows[i].fields),
				     &m),
		    ROUTE_NOT_FOUND);
		assert_int_equal(m.dialect, rows[i].dialect);
	}
	assert_int_equal(route_match(request(&r, "GET", "/v1/models",
					 "anthropic-version: 1\r\n"),
			     &m),
	    ROUTE_MATCH);
	assert_int_equal(m.dialect, C);
}

static void
own_keys_are_stripped_from_queries(void **state)
{
	static const struct {
		const char *query;
		const char *want;
	} rows[] = {
		{ "", "" },
		{ "alt=sse", "alt=sse" },
		{ "key=secret", "" },
		{ "key", "" },
		{ "key=", "" },
		{ "auth_token=secret&alt=sse", "alt=sse" },
		{ "alt=sse&key=secret", "alt=sse" },
		{ "a=1&key=x&b=%20&key=y&auth_token=z&c", "a=1&b=%20&c" },
		{ "%6bey=secret&%61uth%5Ftoken=x&a=1", "a=1" },
		{ "keys=1&ke=2&Key=3&xkey=4", "keys=1&ke=2&Key=3&xkey=4" },
		{ "a=key=1&b=auth_token", "a=key=1&b=auth_token" },
		{ "a&&b&", "a&&b&" },
		{ "%zzkey=1&%6=2&%", "%zzkey=1&%6=2&%" },
		{ "key=a=b&x", "x" },
	};
	char out[256];
	size_t len;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		memset(out, '#', sizeof(out));
		len = route_query_strip(span_of(rows[i].query), out);
		assert_int_equal(len, strlen(rows[i].want));
		assert_memory_equal(out, rows[i].want, len);
		assert_int_equal(out[strlen(rows[i].query)], '#');
	}
	assert_int_equal(route_query_strip((struct span){ NULL, 0 }, out), 0);
}

static void
parameters_are_found_and_decoded(void **state)
{
	static const struct {
		const char *query;
		enum route_query_result want;
		const char *value;
	} rows[] = {
		{ "key=abc", ROUTE_QUERY_FOUND, "abc" },
		{ "a=1&key=abc&key=def", ROUTE_QUERY_FOUND, "abc" },
		{ "%6Bey=a%2Db+c", ROUTE_QUERY_FOUND, "a-b c" },
		{ "key=a=b", ROUTE_QUERY_FOUND, "a=b" },
		{ "key=", ROUTE_QUERY_FOUND, "" },
		{ "key", ROUTE_QUERY_FOUND, "" },
		{ "", ROUTE_QUERY_ABSENT, "" },
		{ "keys=1&xkey=2&KEY=3", ROUTE_QUERY_ABSENT, "" },
		{ "key=%", ROUTE_QUERY_BAD, "" },
		{ "key=%4", ROUTE_QUERY_BAD, "" },
		{ "key=%gg", ROUTE_QUERY_BAD, "" },
		{ "key=a%00", ROUTE_QUERY_BAD, "" },
		{ "key=0123456", ROUTE_QUERY_FOUND, "0123456" },
		{ "key=01234567", ROUTE_QUERY_BAD, "" },
	};
	char out[8];
	size_t len;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(route_query_get(span_of(rows[i].query), "key",
				     out, sizeof(out), &len),
		    rows[i].want);
		if (rows[i].want != ROUTE_QUERY_FOUND)
			continue;
		assert_string_equal(out, rows[i].value);
		assert_int_equal(len, strlen(rows[i].value));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_forwarded_as_operations),
		cmocka_unit_test(own_answers_have_their_paths),
		cmocka_unit_test(paths_match_literally),
		cmocka_unit_test(wrong_methods_are_told_the_right_ones),
		cmocka_unit_test(websockets_are_sent_back_to_http),
		cmocka_unit_test(model_ids_are_decoded),
		cmocka_unit_test(odd_model_ids_are_not_found),
		cmocka_unit_test(
		    unknown_paths_are_refused_in_the_likely_dialect),
		cmocka_unit_test(own_keys_are_stripped_from_queries),
		cmocka_unit_test(parameters_are_found_and_decoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
