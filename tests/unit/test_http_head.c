/* SPDX-License-Identifier: MIT */
/* The request head parser: what it takes, what it refuses, in any pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/http/http_head.h"

#define HOST "Host: a\r\n"
#define GET  "GET / HTTP/1.1\r\n"
#define POST "POST /v1/messages HTTP/1.1\r\n" HOST
#define END  "\r\n"
#define BYTES(s)                                                               \
	{                                                                      \
		(s), sizeof(s) - 1                                             \
	}

struct bytes {
	const char *p;
	size_t len;
};

/* The fields of a parser's outcome that must not depend on the pieces. */
static void
assert_same(const struct http_head *a, const struct http_head *b)
{
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->content_length, b->content_length);
	assert_int_equal(a->method, b->method);
	assert_int_equal(a->minor, b->minor);
	assert_int_equal(a->chunked, b->chunked);
	assert_int_equal(a->keep_alive, b->keep_alive);
	assert_int_equal(a->expect_continue, b->expect_continue);
	assert_int_equal(a->websocket, b->websocket);
	assert_int_equal(a->has_host, b->has_host);
	assert_memory_equal(&a->target, &b->target, sizeof(a->target));
	assert_memory_equal(&a->path, &b->path, sizeof(a->path));
	assert_memory_equal(&a->query, &b->query, sizeof(a->query));
	assert_int_equal(a->count, b->count);
	assert_memory_equal(
	    a->fields, b->fields, a->count * sizeof(a->fields[0]));
}

/* Parses a copy of exactly len bytes, so that overreads are seen. */
static enum http_head_result
parse_copy(struct http_head *h, const char *p, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);
	enum http_head_result r;

	assert_non_null(copy);
	memcpy(copy, p, len);
	r = http_head_parse(h, copy, len);
	h->base = p;
	free(copy);
	return r;
}

static void
assert_split_anywhere(
    struct bytes in, enum http_head_result want, const struct http_head *whole)
{
	struct http_head h;
	enum http_head_result r;
	size_t cut;

	for (cut = 0; cut <= in.len; cut++) {
		http_head_init(&h);
		r = parse_copy(&h, in.p, cut);
		if (r == HTTP_HEAD_MORE)
			r = parse_copy(&h, in.p, in.len);
		assert_int_equal(r, want);
		if (r == HTTP_HEAD_DONE)
			assert_same(&h, whole);
	}
}

static void
assert_byte_by_byte(
    struct bytes in, enum http_head_result want, const struct http_head *whole)
{
	enum http_head_result r = HTTP_HEAD_MORE;
	struct http_head h;
	size_t n;

	http_head_init(&h);
	for (n = 0; n <= in.len && r == HTTP_HEAD_MORE; n++)
		r = parse_copy(&h, in.p, n);
	assert_int_equal(r, want);
	if (r == HTTP_HEAD_DONE) {
		assert_same(&h, whole);
		assert_int_equal(n, h.size + 1);
	}
}

/* Parses whole and in all pieces; the outcome of the whole is left in *h. */
static enum http_head_result
parse(struct http_head *h, struct bytes in)
{
	enum http_head_result r;

	http_head_init(h);
	r = parse_copy(h, in.p, in.len);
	assert_split_anywhere(in, r, h);
	assert_byte_by_byte(in, r, h);
	if (r > HTTP_HEAD_MORE)
		assert_non_null(h->error);
	else
		assert_null(h->error);
	return r;
}

static void
assert_span(struct span s, const char *want)
{
	assert_int_equal(s.len, strlen(want));
	assert_memory_equal(s.p, want, s.len);
}

static const struct {
	const char *name;
	struct bytes in;
	enum http_head_result want;
} outcomes[] = {
	{ "plain get", BYTES(GET HOST END), HTTP_HEAD_DONE },
	{ "one empty line in front", BYTES("\r\n" GET HOST END),
	    HTTP_HEAD_DONE },
	{ "two empty lines in front", BYTES("\r\n\r\n" GET HOST END),
	    HTTP_HEAD_BAD },
	{ "bare LF in front", BYTES("\n" GET HOST END), HTTP_HEAD_BAD },
	{ "nothing yet", BYTES(""), HTTP_HEAD_MORE },
	{ "CR only", BYTES("\r"), HTTP_HEAD_MORE },
	{ "no empty line yet", BYTES(GET HOST), HTTP_HEAD_MORE },
	{ "half of the last CRLF", BYTES(GET HOST "\r"), HTTP_HEAD_MORE },
	{ "TLS hello", BYTES("\x16\x03\x01\x02"), HTTP_HEAD_BAD },

	{ "bare LF after request line", BYTES("GET / HTTP/1.1\n" HOST END),
	    HTTP_HEAD_BAD },
	{ "bare LF after field", BYTES(GET "Host: a\n" END), HTTP_HEAD_BAD },
	{ "bare LF as the end", BYTES(GET HOST "\n"), HTTP_HEAD_BAD },
	{ "bare CR in a field", BYTES(GET HOST "A: b\rC: d\r\n" END),
	    HTTP_HEAD_BAD },
	{ "CR CR LF", BYTES(GET HOST "A: b\r\r\n" END), HTTP_HEAD_BAD },
	{ "NUL in a value", BYTES(GET HOST "A: b\0c\r\n" END), HTTP_HEAD_BAD },
	{ "NUL in a name", BYTES(GET HOST "A\0: b\r\n" END), HTTP_HEAD_BAD },
	{ "NUL in the target", BYTES("GET /\0 HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_BAD },
	{ "escape character in a value", BYTES(GET HOST "A: \x1b[m\r\n" END),
	    HTTP_HEAD_BAD },
	{ "DEL in a value", BYTES(GET HOST "A: \x7f\r\n" END), HTTP_HEAD_BAD },
	{ "DEL deep in a long value",
	    BYTES(GET HOST "A: 0123456789012345678901234567890\x7f\r\n" END),
	    HTTP_HEAD_BAD },
	{ "tab and obs-text in a value",
	    BYTES(GET HOST "A: a\tb\x80\xff\r\n" END), HTTP_HEAD_DONE },
	{ "empty value", BYTES(GET HOST "A:\r\n" END), HTTP_HEAD_DONE },

	{ "space before the colon", BYTES(GET HOST "A : b\r\n" END),
	    HTTP_HEAD_BAD },
	{ "tab before the colon", BYTES(GET HOST "A\t: b\r\n" END),
	    HTTP_HEAD_BAD },
	{ "space in front of the first field", BYTES(GET " A: b\r\n" HOST END),
	    HTTP_HEAD_BAD },
	{ "folded with a space", BYTES(GET HOST "A: b\r\n c\r\n" END),
	    HTTP_HEAD_BAD },
	{ "folded with a tab", BYTES(GET HOST "A: b\r\n\tc\r\n" END),
	    HTTP_HEAD_BAD },
	{ "folded with nothing", BYTES(GET HOST "A: b\r\n \r\n" END),
	    HTTP_HEAD_BAD },
	{ "empty name", BYTES(GET HOST ": b\r\n" END), HTTP_HEAD_BAD },
	{ "no colon", BYTES(GET HOST "Abc\r\n" END), HTTP_HEAD_BAD },
	{ "parentheses in a name", BYTES(GET HOST "A(b): c\r\n" END),
	    HTTP_HEAD_BAD },
	{ "obs-text in a name", BYTES(GET HOST "A\xc3: c\r\n" END),
	    HTTP_HEAD_BAD },

	{ "two spaces after the method", BYTES("GET  / HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_BAD },
	{ "two spaces before the version",
	    BYTES("GET /  HTTP/1.1\r\n" HOST END), HTTP_HEAD_BAD },
	{ "space behind the version", BYTES("GET / HTTP/1.1 \r\n" HOST END),
	    HTTP_HEAD_BAD },
	{ "space in front of the method", BYTES(" GET / HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_BAD },
	{ "tab for a space", BYTES("GET\t/ HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_BAD },
	{ "no version", BYTES("GET /\r\n" HOST END), HTTP_HEAD_BAD },
	{ "method only", BYTES("GET\r\n" HOST END), HTTP_HEAD_BAD },
	{ "no target", BYTES("GET HTTP/1.1\r\n" HOST END), HTTP_HEAD_BAD },
	{ "unknown method", BYTES("BREW / HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_DONE },
	{ "quote in the method", BYTES("G\"T / HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_BAD },

	{ "HTTP/1.0", BYTES("GET / HTTP/1.0\r\n" END), HTTP_HEAD_DONE },
	{ "HTTP/1.2 is 1.1 to us", BYTES("GET / HTTP/1.2\r\n" HOST END),
	    HTTP_HEAD_DONE },
	{ "HTTP/2 preface", BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	    HTTP_HEAD_VERSION },
	{ "HTTP/0.9", BYTES("GET / HTTP/0.9\r\n" HOST END), HTTP_HEAD_VERSION },
	{ "HTTP/3.0", BYTES("GET / HTTP/3.0\r\n" HOST END), HTTP_HEAD_VERSION },
	{ "HTTP/1.10", BYTES("GET / HTTP/1.10\r\n" HOST END), HTTP_HEAD_BAD },
	{ "http/1.1", BYTES("GET / http/1.1\r\n" HOST END), HTTP_HEAD_BAD },
	{ "HTTP/1,1", BYTES("GET / HTTP/1,1\r\n" HOST END), HTTP_HEAD_BAD },
	{ "HTTP/+1.1", BYTES("GET / HTTP/+1.1\r\n" HOST END), HTTP_HEAD_BAD },

	{ "no Host on 1.1", BYTES(GET END), HTTP_HEAD_BAD },
	{ "two Hosts", BYTES(GET HOST HOST END), HTTP_HEAD_BAD },
	{ "two Hosts on 1.0", BYTES("GET / HTTP/1.0\r\n" HOST HOST END),
	    HTTP_HEAD_BAD },
	{ "empty Host", BYTES(GET "Host:\r\n" END), HTTP_HEAD_DONE },
	{ "Host with a port", BYTES(GET "Host: [::1]:8317\r\n" END),
	    HTTP_HEAD_DONE },
	{ "Host with user information", BYTES(GET "Host: u@a\r\n" END),
	    HTTP_HEAD_BAD },
	{ "Host with a path", BYTES(GET "Host: a/b\r\n" END), HTTP_HEAD_BAD },
	{ "Host with a list", BYTES(GET "Host: a, b\r\n" END), HTTP_HEAD_BAD },
	{ "Host with a space", BYTES(GET "Host: a b\r\n" END), HTTP_HEAD_BAD },

	{ "absolute target", BYTES("GET http://b/x HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_DONE },
	{ "absolute target, no Host", BYTES("GET http://b/ HTTP/1.1\r\n" END),
	    HTTP_HEAD_BAD },
	{ "absolute target without a host",
	    BYTES("GET http:///x HTTP/1.1\r\n" HOST END), HTTP_HEAD_BAD },
	{ "absolute target, port only",
	    BYTES("GET http://:80/x HTTP/1.1\r\n" HOST END), HTTP_HEAD_BAD },
	{ "absolute target with user information",
	    BYTES("GET http://u@b/x HTTP/1.1\r\n" HOST END), HTTP_HEAD_BAD },
	{ "absolute target of another scheme",
	    BYTES("GET ftp://b/x HTTP/1.1\r\n" HOST END), HTTP_HEAD_BAD },
	{ "relative target", BYTES("GET x/y HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_BAD },
	{ "authority target", BYTES("CONNECT b:443 HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_BAD },
	{ "asterisk of OPTIONS", BYTES("OPTIONS * HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_DONE },
	{ "asterisk of GET", BYTES("GET * HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_BAD },
	{ "fragment", BYTES("GET /a#b HTTP/1.1\r\n" HOST END), HTTP_HEAD_BAD },
	{ "raw UTF-8 in the target",
	    BYTES("GET /\xc3\xa9 HTTP/1.1\r\n" HOST END), HTTP_HEAD_BAD },
	{ "DEL in the target", BYTES("GET /\x7f HTTP/1.1\r\n" HOST END),
	    HTTP_HEAD_BAD },

	{ "chunked", BYTES(POST "Transfer-Encoding: chunked\r\n" END),
	    HTTP_HEAD_DONE },
	{ "Chunked", BYTES(POST "Transfer-Encoding: Chunked \r\n" END),
	    HTTP_HEAD_DONE },
	{ "xchunked", BYTES(POST "Transfer-Encoding: xchunked\r\n" END),
	    HTTP_HEAD_CODING },
	{ "identity", BYTES(POST "Transfer-Encoding: identity\r\n" END),
	    HTTP_HEAD_CODING },
	{ "gzip, chunked",
	    BYTES(POST "Transfer-Encoding: gzip, chunked\r\n" END),
	    HTTP_HEAD_CODING },
	{ "chunked, chunked",
	    BYTES(POST "Transfer-Encoding: chunked, chunked\r\n" END),
	    HTTP_HEAD_BAD },
	{ "chunked, gzip",
	    BYTES(POST "Transfer-Encoding: chunked, gzip\r\n" END),
	    HTTP_HEAD_BAD },
	{ "chunked,", BYTES(POST "Transfer-Encoding: chunked,\r\n" END),
	    HTTP_HEAD_BAD },
	{ ", chunked", BYTES(POST "Transfer-Encoding: , chunked\r\n" END),
	    HTTP_HEAD_BAD },
	{ "chunked;a=b", BYTES(POST "Transfer-Encoding: chunked;a=b\r\n" END),
	    HTTP_HEAD_BAD },
	{ "quoted chunked",
	    BYTES(POST "Transfer-Encoding: \"chunked\"\r\n" END),
	    HTTP_HEAD_BAD },
	{ "vertical tab and chunked",
	    BYTES(POST "Transfer-Encoding: \vchunked\r\n" END), HTTP_HEAD_BAD },
	{ "empty coding", BYTES(POST "Transfer-Encoding:\r\n" END),
	    HTTP_HEAD_BAD },
	{ "two codings",
	    BYTES(POST "Transfer-Encoding: chunked\r\n"
		       "Transfer-Encoding: chunked\r\n" END),
	    HTTP_HEAD_BAD },
	{ "chunked on 1.0",
	    BYTES("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" END),
	    HTTP_HEAD_BAD },
	{ "length and chunked",
	    BYTES(POST "Content-Length: 3\r\n"
		       "Transfer-Encoding: chunked\r\n" END),
	    HTTP_HEAD_BAD },
	{ "chunked and length 0",
	    BYTES(POST "Transfer-Encoding: chunked\r\n"
		       "Content-Length: 0\r\n" END),
	    HTTP_HEAD_BAD },

	{ "differing lengths",
	    BYTES(POST "Content-Length: 3\r\nContent-Length: 4\r\n" END),
	    HTTP_HEAD_BAD },
	{ "equal lengths",
	    BYTES(POST "Content-Length: 3\r\nContent-Length: 3\r\n" END),
	    HTTP_HEAD_BAD },
	{ "length list", BYTES(POST "Content-Length: 3, 3\r\n" END),
	    HTTP_HEAD_BAD },
	{ "+27", BYTES(POST "Content-Length: +27\r\n" END), HTTP_HEAD_BAD },
	{ "-1", BYTES(POST "Content-Length: -1\r\n" END), HTTP_HEAD_BAD },
	{ "0x10", BYTES(POST "Content-Length: 0x10\r\n" END), HTTP_HEAD_BAD },
	{ "1e3", BYTES(POST "Content-Length: 1e3\r\n" END), HTTP_HEAD_BAD },
	{ "1 0", BYTES(POST "Content-Length: 1 0\r\n" END), HTTP_HEAD_BAD },
	{ "empty length", BYTES(POST "Content-Length:\r\n" END),
	    HTTP_HEAD_BAD },
	{ "largest length",
	    BYTES(POST "Content-Length: 9223372036854775807\r\n" END),
	    HTTP_HEAD_DONE },
	{ "length beyond 63 bits",
	    BYTES(POST "Content-Length: 9223372036854775808\r\n" END),
	    HTTP_HEAD_BAD },
	{ "length beyond 64 bits",
	    BYTES(POST "Content-Length: 18446744073709551617\r\n" END),
	    HTTP_HEAD_BAD },
};

static void
each_head_has_its_outcome(void **state)
{
	struct http_head h;
	enum http_head_result r;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(outcomes); i++) {
		r = parse(&h, outcomes[i].in);
		if (r != outcomes[i].want)
			print_error("%s: %s\n", outcomes[i].name,
			    h.error != NULL ? h.error : "accepted");
		assert_int_equal(r, outcomes[i].want);
	}
}

static void
each_refusal_has_its_status(void **state)
{
	(void)state;
	assert_int_equal(http_head_status(HTTP_HEAD_BAD), 400);
	assert_int_equal(http_head_status(HTTP_HEAD_VERSION), 505);
	assert_int_equal(http_head_status(HTTP_HEAD_CODING), 501);
	assert_int_equal(http_head_status(HTTP_HEAD_TOO_LARGE), 431);
}

static void
parts_of_the_target_are_found(void **state)
{
	static const struct {
		const char *target;
		const char *path;
		const char *query;
	} rows[] = {
		{ "/", "/", "" },
		{ "/v1/messages?beta=true", "/v1/messages", "beta=true" },
		{ "/a?b?c", "/a", "b?c" },
		{ "/a?", "/a", "" },
		{ "/a//b/../c%2fd", "/a//b/../c%2fd", "" },
		{ "/?a={b}|c", "/", "a={b}|c" },
		{ "http://h", "/", "" },
		{ "HTTPS://h:80?a=b", "/", "a=b" },
		{ "http://[::1]:80/a?b", "/a", "b" },
		{ "//h/a", "//h/a", "" },
	};
	char text[256];
	struct http_head h;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text),
		    "POST %s HTTP/1.1\r\nHost: a\r\n\r\n", rows[i].target);
		assert_int_equal(
		    parse(&h, (struct bytes){ text, strlen(text) }),
		    HTTP_HEAD_DONE);
		assert_int_equal(h.method, HTTP_POST);
		assert_span(http_head_span(&h, h.verb), "POST");
		assert_span(http_head_span(&h, h.target), rows[i].target);
		assert_span(http_head_path(&h), rows[i].path);
		assert_span(http_head_span(&h, h.query), rows[i].query);
	}
}

static void
methods_are_known_by_their_exact_name(void **state)
{
	static const struct {
		const char *name;
		enum http_method method;
	} rows[] = {
		{ "GET", HTTP_GET },
		{ "HEAD", HTTP_HEAD },
		{ "POST", HTTP_POST },
		{ "PUT", HTTP_PUT },
		{ "DELETE", HTTP_DELETE },
		{ "OPTIONS", HTTP_OPTIONS },
		{ "PATCH", HTTP_PATCH },
		{ "TRACE", HTTP_TRACE },
		{ "CONNECT", HTTP_CONNECT },
		{ "get", HTTP_METHOD_OTHER },
		{ "GETS", HTTP_METHOD_OTHER },
	};
	char text[64];
	struct http_head h;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text), "%s / HTTP/1.1\r\nHost: a\r\n\r\n",
		    rows[i].name);
		assert_int_equal(
		    parse(&h, (struct bytes){ text, strlen(text) }),
		    HTTP_HEAD_DONE);
		assert_int_equal(h.method, rows[i].method);
	}
}

static void
fields_say_how_the_message_is_framed_and_kept(void **state)
{
	static const struct {
		struct bytes in;
		int64_t length;
		bool chunked;
		bool keep;
		bool expect;
		bool websocket;
	} rows[] = {
		{ BYTES(GET HOST END), -1, false, true, false, false },
		{ BYTES(GET HOST "Connection: close\r\n" END), -1, false, false,
		    false, false },
		{ BYTES(GET HOST "Connection: x, Close\r\n" END), -1, false,
		    false, false, false },
		{ BYTES(GET HOST "Connection: keep-alive\r\n"
				 "Connection: close\r\n" END),
		    -1, false, false, false, false },
		{ BYTES(GET HOST "Connection: closed\r\n" END), -1, false, true,
		    false, false },
		{ BYTES("GET / HTTP/1.0\r\n" END), -1, false, false, false,
		    false },
		{ BYTES("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n" END), -1,
		    false, true, false, false },
		{ BYTES("GET / HTTP/1.0\r\nConnection: keep-alive, "
			"close\r\n" END),
		    -1, false, false, false, false },
		{ BYTES(POST "Content-Length: 007\r\n" END), 7, false, true,
		    false, false },
		{ BYTES(POST "content-length:0\r\n" END), 0, false, true, false,
		    false },
		{ BYTES(POST "transfer-encoding: CHUNKED\r\n" END), -1, true,
		    true, false, false },
		{ BYTES(POST "Expect: 100-Continue\r\n" END), -1, false, true,
		    true, false },
		{ BYTES(POST "Expect: 200-ok\r\n" END), -1, false, true, false,
		    false },
		{ BYTES("POST / HTTP/1.0\r\nExpect: 100-continue\r\n" END), -1,
		    false, false, false, false },
		{ BYTES(GET HOST "Connection: keep-alive, Upgrade\r\n"
				 "Upgrade: h2c, WebSocket\r\n" END),
		    -1, false, true, false, true },
		{ BYTES(GET HOST "Upgrade: websocket\r\n" END), -1, false, true,
		    false, false },
		{ BYTES(GET HOST "Connection: upgrade\r\n" END), -1, false,
		    true, false, false },
		{ BYTES(
		      POST "Connection: upgrade\r\nUpgrade: websocket\r\n" END),
		    -1, false, true, false, false },
	};
	struct http_head h;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(parse(&h, rows[i].in), HTTP_HEAD_DONE);
		assert_int_equal(h.content_length, rows[i].length);
		assert_int_equal(h.chunked, rows[i].chunked);
		assert_int_equal(h.keep_alive, rows[i].keep);
		assert_int_equal(h.expect_continue, rows[i].expect);
		assert_int_equal(h.websocket, rows[i].websocket);
		assert_int_equal(h.size, rows[i].in.len);
	}
}

static void
fields_are_found_by_name_in_any_case(void **state)
{
	static const struct bytes in =
	    BYTES(GET HOST "X-Session-Id: \t one \t\r\nx_session_id: two\r\n"
			   "X-SESSION-ID:three\r\nEmpty: \r\n" END);
	struct http_head h;
	int i;

	(void)state;
	assert_int_equal(parse(&h, in), HTTP_HEAD_DONE);
	assert_span(http_head_get(&h, "x-session-id"), "one");
	assert_span(http_head_get(&h, "x_session_id"), "two");
	assert_span(http_head_get(&h, "empty"), "");
	assert_non_null(http_head_get(&h, "empty").p);
	assert_null(http_head_get(&h, "x-session-i").p);
	assert_null(http_head_get(&h, "absent").p);

	i = http_head_find(&h, "x-session-id", 0);
	assert_int_equal(i, 1);
	assert_span(http_head_name(&h, i), "X-Session-Id");
	i = http_head_find(&h, "x-session-id", i + 1);
	assert_int_equal(i, 3);
	assert_span(http_head_value(&h, i), "three");
	assert_int_equal(http_head_find(&h, "x-session-id", i + 1), -1);
}

static void
tokens_are_found_in_lists(void **state)
{
	static const struct bytes in =
	    BYTES(GET HOST "Connection: , x-a ,X-B\r\nConnection: c\r\n" END);
	struct http_head h;

	(void)state;
	assert_int_equal(parse(&h, in), HTTP_HEAD_DONE);
	assert_true(http_head_lists(&h, "connection", SPAN("X-A")));
	assert_true(http_head_lists(&h, "connection", SPAN("x-b")));
	assert_true(http_head_lists(&h, "connection", SPAN("C")));
	assert_false(http_head_lists(&h, "connection", SPAN("x-")));
	assert_false(http_head_lists(&h, "te", SPAN("trailers")));
}

static void
what_follows_the_head_is_left_alone(void **state)
{
	static const char in[] = POST "Content-Length: 2\r\n\r\n\n\0GET";
	struct http_head h;

	(void)state;
	assert_int_equal(
	    parse(&h, (struct bytes){ in, sizeof(in) - 1 }), HTTP_HEAD_DONE);
	assert_int_equal(h.size, sizeof(in) - 1 - 5);
}

static void
fields_are_counted(void **state)
{
	static char text[65536];
	struct http_head h;
	size_t len;
	int i;

	(void)state;
	len = (size_t)sprintf(text, "%s", GET HOST);
	for (i = 1; i < HTTP_HEAD_FIELDS; i++)
		len += (size_t)sprintf(text + len, "X-%d: y\r\n", i);
	memcpy(text + len, "\r\n", 2);
	http_head_init(&h);
	assert_int_equal(parse_copy(&h, text, len + 2), HTTP_HEAD_DONE);
	assert_int_equal(h.count, HTTP_HEAD_FIELDS);
	assert_span(http_head_get(&h, "x-127"), "y");

	memcpy(text + len, "Z: z\r\n\r\n", 8);
	http_head_init(&h);
	assert_int_equal(parse_copy(&h, text, len + 8), HTTP_HEAD_TOO_LARGE);
}

/* A parser that began anew with each byte would read half a terabyte here. */
static void
dribbled_bytes_are_not_read_twice(void **state)
{
	size_t size = 1 << 20;
	char *text = malloc(size);
	struct http_head h;
	size_t n;

	(void)state;
	assert_non_null(text);
	memset(text, 'x', size);
	memcpy(text, "GET /", 5);
	http_head_init(&h);
	for (n = 0; n < size; n++)
		assert_int_equal(http_head_parse(&h, text, n), HTTP_HEAD_MORE);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_head_has_its_outcome),
		cmocka_unit_test(each_refusal_has_its_status),
		cmocka_unit_test(parts_of_the_target_are_found),
		cmocka_unit_test(methods_are_known_by_their_exact_name),
		cmocka_unit_test(fields_say_how_the_message_is_framed_and_kept),
		cmocka_unit_test(fields_are_found_by_name_in_any_case),
		cmocka_unit_test(tokens_are_found_in_lists),
		cmocka_unit_test(what_follows_the_head_is_left_alone),
		cmocka_unit_test(fields_are_counted),
		cmocka_unit_test(dribbled_bytes_are_not_read_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
