/* SPDX-License-Identifier: MIT */
/* Which signal identifies the session: order, validity, forms, aliases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "worker/session/session.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct facts facts;
static struct http_head head;
static struct session_id session;

/* headers: whole lines. body: JSON, or NULL. */
static bool
find(const char *headers, const char *body)
{
	static char text[16384];

	(void)snprintf(text, sizeof(text),
	    "POST /v1/messages HTTP/1.1\r\nHost: h\r\n%s\r\n", headers);
	http_head_init(&head);
	if (http_head_parse(&head, text, strlen(text)) != HTTP_HEAD_DONE)
		fail_msg("%s", headers);
	if (body != NULL && facts_read(&facts, body, strlen(body)) != FACTS_OK)
		fail_msg("%s", body);
	return session_find(&session, &head, body != NULL ? &facts : NULL);
}

static void
assert_session(const char *headers, const char *body, const char *id)
{
	bool found = find(headers, body);

	if (found != (id[0] != '\0') || strcmp(session.id, id) != 0)
		fail_msg("%s%s: \"%s\", not \"%s\"", headers,
		    body != NULL ? body : "", session.id, id);
}

#define UUID          "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
#define USER_ID(text) "{\"metadata\":{\"user_id\":\"" text "\"}}"
#define LEGACY        "user_0123abcd_account__session_" UUID

static const struct row {
	const char *headers, *body, *id;
} signals[] = {
	{ "X-Claude-Code-Session-Id: v\r\n", NULL, "claude:v" },
	{ "", USER_ID(LEGACY), "claude:" UUID },
	{ "", USER_ID("user_0123abcd_session_" UUID), "claude:" UUID },
	{ "",
	    USER_ID("{\\\"device_id\\\":\\\"d\\\",\\\"session_id\\\":\\\"" UUID
		    "\\\"}"),
	    "claude:" UUID },
	{ "Session-Id: v\r\n", NULL, "codex:v" },
	{ "Session_id: v\r\n", NULL, "codex:v" },
	{ "session_id: v\r\n", NULL, "codex:v" },
	{ "x-opencode-session: v\r\n", NULL, "opencode:v" },
	{ "X-Session-ID: v\r\n", NULL, "header:v" },
	{ "x-session-affinity: v\r\n", NULL, "affinity:v" },
	{ "X-Amp-Thread-Id: T-v\r\n", NULL, "amp:T-v" },
	{ "", "{\"session_id\":\"v\"}", "session:v" },
	{ "", "{\"session_id\":123}", "session:123" },
	{ "", "{\"session_id\":true}", "session:true" },
	{ "", "{\"session_id\":{\"a\":1}}", "session:{\"a\":1}" },
	{ "", "{\"sessionId\":\"v\"}", "session:v" },
	{ "", "{\"request\":{\"session_id\":\"v\"}}", "session:v" },
	{ "", "{\"prompt_cache_key\":\"v\"}", "pck:v" },
	{ "", "{\"promptCacheKey\":\"v\"}", "pck:v" },
	{ "", "{\"conversation\":\"v\"}", "conv:v" },
	{ "", "{\"conversation\":{\"id\":\"v\"}}", "conv:v" },
	{ "", USER_ID("v"), "user:v" },
	{ "", "{\"conversation_id\":\"v\"}", "conv:v" },
	{ "",
	    "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello world\"}]}",
	    "msg:6f3af82650710693" },
	{ "", "{\"input\":\"U\"}",
	    "derived:ctx:v1:57f1fb2d8965de67313fedca0045a665"
	    "bd5f94508e669d8ed1eb8139d9b84af8" },
	/* none of these is one */
	{ "Idempotency-Key: v\r\nX-Client-Request-Id: v\r\n"
	  "X-Parent-Session-Id: v\r\nThread-Id: v\r\n",
	    "{\"previous_response_id\":\"r\",\"user\":\"u\",\"metadata\":"
	    "{\"session_id\":\"s\"},\"safety_identifier\":\"i\"}",
	    "" },
	{ "", NULL, "" },
	{ "", "{}", "" },
};

static void
each_signal_has_its_prefix(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(signals); i++)
		assert_session(
		    signals[i].headers, signals[i].body, signals[i].id);
}

/*
 * One request with every signal, of which the strongest is made invalid again
 * and again: the next one must win.
 */
static void
stronger_signals_win(void **state)
{
	static const struct {
		const char *header; /* or NULL */
		const char *member;
		const char *id;
	} order[] = {
		{ "X-Claude-Code-Session-Id", NULL, "claude:0" },
		{ NULL, "\"metadata\":{\"user_id\":\"" LEGACY "\"}",
		    "claude:" UUID },
		{ "Session-Id", NULL, "codex:2" },
		{ "Session_id", NULL, "codex:3" },
		{ "x-opencode-session", NULL, "opencode:4" },
		{ "X-Session-ID", NULL, "header:5" },
		{ "X-Session-Affinity", NULL, "affinity:6" },
		{ "X-Amp-Thread-Id", NULL, "amp:7" },
		{ NULL, "\"session_id\":8", "session:8" },
		{ NULL, "\"sessionId\":9", "session:9" },
		{ NULL, "\"request\":{\"session_id\":10}", "session:10" },
		{ NULL, "\"prompt_cache_key\":11", "pck:11" },
		{ NULL, "\"promptCacheKey\":12", "pck:12" },
		{ NULL, "\"conversation\":\"13\"", "conv:13" },
		{ NULL, "\"metadata\":{\"user_id\":14}", "user:14" },
		{ NULL, "\"conversation_id\":15", "conv:15" },
		{ NULL, "\"system\":\"only system\"", "msg:13ae354dc982a88b" },
	};
	char headers[1024], body[1024];
	size_t first, i, h, b;

	(void)state;
	for (first = 0; first < COUNT(order); first++) {
		headers[0] = '\0';
		h = 0;
		b = (size_t)sprintf(body, "{\"x\":0");
		for (i = 0; i < COUNT(order); i++) {
			if (order[i].header != NULL)
				h +=
				    (size_t)sprintf(headers + h, "%s: %.*s\r\n",
					order[i].header, i < first ? 0 : 9,
					strchr(order[i].id, ':') + 1);
			else if (i >= first)
				b += (size_t)sprintf(
				    body + b, ",%s", order[i].member);
		}
		(void)sprintf(body + b, "}");
		assert_session(headers, body, order[first].id);
	}
}

static void
the_first_valid_value_of_a_header_counts(void **state)
{
	char headers[1024], long_value[258];

	(void)state;
	assert_session("X-Session-ID:\r\nx-session-id:  b \r\n"
		       "X-SESSION-ID: c\r\n",
	    NULL, "header:b");
	memset(long_value, 'x', 257);
	long_value[257] = '\0';
	(void)snprintf(headers, sizeof(headers),
	    "X-Session-ID: %s\r\nX-Session-ID: ok\r\n", long_value);
	assert_session(headers, NULL, "header:ok");
}

static const struct {
	const char *value, *normal; /* "" is invalid */
} normalizations[] = {
	{ "v", "v" },
	{ "  v w ", "v w" },
	{ "\xc2\xa0v\xe3\x80\x80", "v" },
	{ "", "" },
	{ "   ", "" },
	{ "\xe2\x80\x83", "" },
	{ "v\n", "" },
	{ "\tv", "" },
	{ "a\x7f", "" },
	{ "a\xc2\x85"
	  "b",
	    "" },
	{ "caf\xc3\xa9", "caf\xc3\xa9" },
};

static void
values_are_normalized(void **state)
{
	char value[300];
	struct span normal;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(normalizations); i++) {
		normal =
		    session_value_normalize(span_of(normalizations[i].value));
		assert_true(
		    span_equal(normal, span_of(normalizations[i].normal)));
	}
	memset(value, 'x', sizeof(value));
	normal = session_value_normalize((struct span){ value, 256 });
	assert_int_equal(normal.len, 256);
	normal = session_value_normalize((struct span){ value, 257 });
	assert_int_equal(normal.len, 0);
	memset(value, ' ', 20);
	normal = session_value_normalize((struct span){ value, 276 });
	assert_int_equal(normal.len, 256);
	normal = session_value_normalize((struct span){ "a\0b", 3 });
	assert_int_equal(normal.len, 0);
}

static void
invalid_body_values_fall_through(void **state)
{
	static const struct row rows[] = {
		{ "", "{\"session_id\":\"a\\nb\",\"sessionId\":\"ok\"}",
		    "session:ok" },
		{ "", "{\"session_id\":\"\\u0000\",\"conversation_id\":\"ok\"}",
		    "conv:ok" },
		{ "", "{\"session_id\":\"  \",\"conversation_id\":\" ok \"}",
		    "conv:ok" },
		{ "", "{\"session_id\":null,\"conversation_id\":\"ok\"}",
		    "conv:ok" },
		{ "", "{\"session_id\":{\n},\"conversation_id\":\"ok\"}",
		    "conv:ok" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		assert_session(rows[i].headers, rows[i].body, rows[i].id);
}

static const struct row user_ids[] = {
	/* the older form is the end of the text, in lower-case hex */
	{ "", USER_ID("_session_a"), "claude:a" },
	{ "", USER_ID("  " LEGACY "  "), "claude:" UUID },
	{ "", USER_ID("x_session_1_session_2"), "claude:2" },
	{ "", USER_ID("_session_failover-test-uuid"),
	    "user:_session_failover-test-uuid" },
	{ "", USER_ID("_session_ABCDEF"), "user:_session_ABCDEF" },
	{ "", USER_ID("_session_"), "user:_session_" },
	{ "", USER_ID(LEGACY "/x"), "user:" LEGACY "/x" },
	{ "", USER_ID("user-1234_session-abcd"),
	    "user:user-1234_session-abcd" },
	/* the newer form, and texts that only look like it */
	{ "", USER_ID(" {\\n \\\"session_id\\\" : \\\" s \\\"}\\n"),
	    "claude:s" },
	{ "", USER_ID("{\\\"session_id\\\":7}"), "claude:7" },
	{ "",
	    USER_ID("{\\\"session_id\\\":\\\"a\\\",\\\"session_id\\\":\\\"b"
		    "\\\"}"),
	    "claude:a" },
	{ "", USER_ID("{\\\"a\\\":{\\\"session_id\\\":\\\"s\\\"}}"),
	    "user:{\"a\":{\"session_id\":\"s\"}}" },
	{ "", USER_ID("{\\\"session_id\\\":\\\"\\\"}"),
	    "user:{\"session_id\":\"\"}" },
	{ "", USER_ID("{\\\"session_id\\\":\\\"s\\\""),
	    "user:{\"session_id\":\"s\"" },
	{ "", USER_ID("{_session_abc"), "user:{_session_abc" },
	{ "", "{\"metadata\":{\"user_id\":{\"session_id\":\"s\"}}}",
	    "claude:s" },
};

static void
claude_sessions_are_found_in_user_ids(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(user_ids); i++)
		assert_session(
		    user_ids[i].headers, user_ids[i].body, user_ids[i].id);
}

static void
a_long_user_id_still_holds_its_session(void **state)
{
	char body[16384], long_text[9000];

	(void)state;
	memset(long_text, 'u', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	(void)sprintf(body, USER_ID("%.300s_session_abc"), long_text);
	assert_session("", body, "claude:abc");
	(void)sprintf(body,
	    USER_ID("{\\\"x\\\":\\\"%.7000s\\\",\\\"session_id\\\":\\\"s\\\"}"),
	    long_text);
	assert_session("", body, "claude:s");
	(void)sprintf(body, USER_ID("%.300s"), long_text);
	assert_session("", body, "");
	(void)sprintf(body, USER_ID("%s_session_abc"), long_text);
	assert_session("", body, "");
}

static void
a_cache_key_has_its_conversation_as_alias(void **state)
{
	static const struct {
		const char *body, *alias;
	} rows[] = {
		{ "{\"prompt_cache_key\":\"k\",\"conversation\":\"c\"}",
		    "conv:c" },
		{ "{\"conversation\":{\"id\":\"c\"},\"promptCacheKey\":\"k\"}",
		    "conv:c" },
		{ "{\"prompt_cache_key\":\"k\",\"conversation_id\":\"c\"}",
		    "" },
		{ "{\"prompt_cache_key\":\"k\",\"conversation\":\"\\n\"}", "" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_session("", rows[i].body, "pck:k");
		assert_string_equal(session.alias, rows[i].alias);
	}
	assert_session("", "{\"conversation\":\"c\"}", "conv:c");
	assert_string_equal(session.alias, "");
}

#define U "{\"role\":\"user\",\"content\":\"Hello world\"}"
#define A "{\"role\":\"assistant\",\"content\":\"Hi! How can I help?\"}"

static void
later_turns_inherit_by_the_short_hash(void **state)
{
	(void)state;
	assert_session("", "{\"messages\":[" U "]}", "msg:6f3af82650710693");
	assert_string_equal(session.alias, "");
	assert_session(
	    "", "{\"messages\":[" U "," A "]}", "msg:0964de51a03c0514");
	assert_string_equal(session.alias, "msg:6f3af82650710693");
	assert_session("", "{\"messages\":[" U "," A "," U "," A "]}",
	    "msg:0964de51a03c0514");
	assert_string_equal(session.alias, "msg:6f3af82650710693");
}

static void
a_parent_is_named_as_the_session_is(void **state)
{
	static const struct {
		const char *headers, *body, *parent;
	} rows[] = {
		{ "X-Session-Id: c\r\nX-Parent-Session-Id: p\r\n", NULL,
		    "header:p" },
		{ "x-opencode-session: c\r\nx-parent-session-id: p\r\n", NULL,
		    "opencode:p" },
		{ "Session-Id: c\r\nX-Codex-Parent-Thread-Id: p\r\n", NULL,
		    "codex:p" },
		{ "Session-Id: c\r\nX-Session-Id: c\r\n"
		  "X-Parent-Session-Id: p\r\n",
		    NULL, "codex:p" },
		/* Without a header of its own. */
		{ "X-Parent-Session-Id: p\r\n", "{\"session_id\":\"c\"}",
		    "header:p" },
		{ "X-Codex-Parent-Thread-Id: p\r\n",
		    "{\"prompt_cache_key\":\"c\"}", "codex:p" },
		/* Normalized; the first valid one. */
		{ "X-Session-Id: c\r\nX-Parent-Session-Id: \r\n"
		  "X-Parent-Session-Id:   p  \r\n",
		    NULL, "header:p" },
		{ "X-Session-Id: c\r\nX-Parent-Session-Id: \r\n", NULL, "" },
		/* Its own parent it is not. */
		{ "Session-Id: p\r\nX-Codex-Parent-Thread-Id: p\r\n", NULL,
		    "" },
		{ "X-Session-Id: c\r\n", NULL, "" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		assert_true(find(rows[i].headers, rows[i].body));
		assert_string_equal(session.parent, rows[i].parent);
	}
}

static void
the_source_is_named(void **state)
{
	(void)state;
	assert_true(find("X-Session-ID: v\r\n", NULL));
	assert_string_equal(session.source, "header x-session-id");
	assert_string_equal(session.prefix, "header");
	assert_true(find("", "{\"prompt_cache_key\":\"k\"}"));
	assert_string_equal(session.source, "body prompt_cache_key");
	assert_string_equal(session.prefix, "pck");
	assert_false(find("", "{}"));
	assert_null(session.source);
}

static void
ids_are_shortened_for_logs(void **state)
{
	static const struct {
		const char *id, *shortened;
	} rows[] = { { "", "" }, { "claude:abc", "claude:abc" },
		{ "msg:6f3af82650710693", "msg:6f3af82650710693" },
		{ "claude:" UUID, "claude:1..." },
		{ "derived:ctx:v1:0123456789", "derived:..." },
		{ "conv:\xe7\x95\x8c", "conv:\xe7\x95\x8c" },
		{ "header:\xe7\x95\x8c-and-some-more", "header:?..." },
		{ "header:\xff\xc3!", "header:?\?!" } };
	char shortened[SESSION_SHORT_BYTES];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		session_id_shorten(rows[i].id, shortened);
		assert_string_equal(shortened, rows[i].shortened);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_signal_has_its_prefix),
		cmocka_unit_test(stronger_signals_win),
		cmocka_unit_test(the_first_valid_value_of_a_header_counts),
		cmocka_unit_test(values_are_normalized),
		cmocka_unit_test(invalid_body_values_fall_through),
		cmocka_unit_test(claude_sessions_are_found_in_user_ids),
		cmocka_unit_test(a_long_user_id_still_holds_its_session),
		cmocka_unit_test(a_cache_key_has_its_conversation_as_alias),
		cmocka_unit_test(later_turns_inherit_by_the_short_hash),
		cmocka_unit_test(a_parent_is_named_as_the_session_is),
		cmocka_unit_test(the_source_is_named),
		cmocka_unit_test(ids_are_shortened_for_logs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
