/* SPDX-License-Identifier: MIT */
#include "worker/http/http_answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/attr.h"

#define OK "HTTP/1.1 200 OK\r\n"

/* Reads a head that lies alone in its memory. */
static enum http_answer_result
read_head(struct http_answer *a, const char *text, bool no_body)
{
	char *copy = xstrdup(text);
	enum http_answer_result r;
	size_t scanned = 0, size;

	*a = (struct http_answer){ 0 };
	r = http_answer_find(a, copy, strlen(copy), &scanned, &size);
	if (r == HTTP_ANSWER_DONE)
		r = http_answer_read(a, copy, size, no_body);
	free(copy);
	return r;
}

static void
head_says_how_the_body_is_framed(void **state UNUSED)
{
	static const struct {
		const char *text;
		int status;
		enum http_answer_framing framing;
		bool keep_alive;
		uint64_t left;
		bool no_body;
	} rows[] = {
		{ OK "Content-Length: 5\r\n\r\n", 200, HTTP_ANSWER_LENGTH, true,
		    5, false },
		{ OK "content-length:5, 5\r\n\r\n", 200, HTTP_ANSWER_LENGTH,
		    true, 5, false },
		{ OK "Content-Length : 5\r\n\r\n", 200, HTTP_ANSWER_LENGTH,
		    true, 5, false },
		{ OK "Content-Length: 0\r\n\r\n", 200, HTTP_ANSWER_EMPTY, true,
		    0, false },
		{ OK "Transfer-Encoding: Chunked\r\n\r\n", 200,
		    HTTP_ANSWER_CHUNKED, true, 0, false },
		{ OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		    200, HTTP_ANSWER_CHUNKED, false, 0, false },
		{ OK "\r\n", 200, HTTP_ANSWER_CLOSE, false, 0, false },
		{ OK "Connection: x, Close\r\nContent-Length: 1\r\n\r\n", 200,
		    HTTP_ANSWER_LENGTH, false, 1, false },
		{ OK "Content-Length: 5\r\n\r\n", 200, HTTP_ANSWER_EMPTY, true,
		    0, true },
		{ "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 200,
		    HTTP_ANSWER_LENGTH, false, 5, false },
		{ "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n"
		  "Connection: keep-alive\r\n\r\n",
		    200, HTTP_ANSWER_LENGTH, true, 5, false },
		{ "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n"
		  "Connection: keep-alive\r\n\r\n",
		    200, HTTP_ANSWER_CHUNKED, false, 0, false },
		{ "HTTP/1.7 503\r\n\r\n", 503, HTTP_ANSWER_CLOSE, false, 0,
		    false },
		{ "HTTP/1.1 103 Early\r\nContent-Length: 5\r\n\r\n", 103,
		    HTTP_ANSWER_EMPTY, true, 0, false },
		{ "HTTP/1.1 204 None\r\n\r\n", 204, HTTP_ANSWER_EMPTY, true, 0,
		    false },
		{ "HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n", 304,
		    HTTP_ANSWER_EMPTY, true, 0, false },
		{ "HTTP/1.1 200 OK\nContent-Length: 5\n\n", 200,
		    HTTP_ANSWER_LENGTH, true, 5, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct http_answer a;

		assert_int_equal(read_head(&a, rows[i].text, rows[i].no_body),
		    HTTP_ANSWER_DONE);
		assert_int_equal(a.status, rows[i].status);
		assert_int_equal(a.framing, rows[i].framing);
		assert_int_equal(a.keep_alive, rows[i].keep_alive);
		assert_int_equal(a.left, rows[i].left);
	}
}

static void
what_is_no_answer_is_refused(void **state UNUSED)
{
	static const char *const rows[] = {
		"HTTP/2 200 OK\r\n\r\n",
		"HTTP/1.x 200 OK\r\n\r\n",
		"HTTP/1.1200 OK\r\n\r\n",
		"HTTP/1.1 20 OK\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 099 OK\r\n\r\n",
		"HTTP/1.1 101 Go\r\n\r\n",
		"HTTP/1.1\r\n\r\n",
		"http/1.1 200 OK\r\n\r\n",
		"\r\nHTTP/1.1 200 OK\r\n\r\n",
		"ICY 200 OK\r\n\r\n",
		OK "X\r\n\r\n",
		OK ": x\r\n\r\n",
		OK "X Y: z\r\n\r\n",
		OK " X: y\r\n\r\n",
		OK "X: \x01\r\n\r\n",
		OK "X: a\rb\r\n\r\n",
		OK "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
		OK "Content-Length: 1, 2\r\n\r\n",
		OK "Content-Length: +1\r\n\r\n",
		OK "Content-Length:\r\n\r\n",
		OK "Content-Length: 1 1\r\n\r\n",
		OK "Content-Length: 99999999999999999999\r\n\r\n",
		OK "Transfer-Encoding: gzip\r\n\r\n",
		OK "Transfer-Encoding: gzip, chunked\r\n\r\n",
		OK "Transfer-Encoding: chunked, chunked\r\n\r\n",
		OK "Transfer-Encoding:\r\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct http_answer a;

		if (read_head(&a, rows[i], false) != HTTP_ANSWER_BAD)
			fail_msg("row %zu was taken", i);
		assert_non_null(a.error);
	}
}

static void
end_of_a_head_is_found_in_any_pieces(void **state UNUSED)
{
	static const char *const heads[] = {
		OK "A: b\r\n\r\n",
		OK "\r\n",
		"HTTP/1.1 200\n\n",
		OK "A: b\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		size_t whole = strlen(heads[i]);
		AUTO_FREE char *text = xasprintf("%s\n\nmore", heads[i]);
		struct http_answer a;
		size_t scanned = 0, size = 0;

		for (size_t n = 0; n < whole; n++)
			assert_int_equal(
			    http_answer_find(&a, text, n, &scanned, &size),
			    HTTP_ANSWER_MORE);
		assert_int_equal(
		    http_answer_find(&a, text, whole, &scanned, &size),
		    HTTP_ANSWER_DONE);
		assert_int_equal(size, whole);
		scanned = 0;
		assert_int_equal(
		    http_answer_find(&a, text, strlen(text), &scanned, &size),
		    HTTP_ANSWER_DONE);
		assert_int_equal(size, whole);
	}
}

static void
folded_lines_become_one(void **state UNUSED)
{
	char head[] = OK "A: b\r\n\tc\n d\r\nE: f\r\n\r\n";
	struct http_answer a;

	assert_int_equal(http_answer_read(&a, head, sizeof(head) - 1, false),
	    HTTP_ANSWER_DONE);
	assert_string_equal(head + a.fields, "A: b  \tc  d\r\nE: f\r\n\r\n");
}

static void
body_is_decoded_in_place(void **state UNUSED)
{
	static const struct {
		const char *head;
		const char *bytes;
		const char *content;
		enum http_answer_result result;
		size_t used;
	} rows[] = {
		{ OK "Content-Length: 3\r\n\r\n", "abcd", "abc",
		    HTTP_ANSWER_DONE, 3 },
		{ OK "Content-Length: 3\r\n\r\n", "ab", "ab", HTTP_ANSWER_MORE,
		    2 },
		{ OK "\r\n", "abc", "abc", HTTP_ANSWER_MORE, 3 },
		{ OK "Content-Length: 0\r\n\r\n", "abc", "", HTTP_ANSWER_DONE,
		    0 },
		{ OK "Transfer-Encoding: chunked\r\n\r\n",
		    "1 ;x=\"y\"\r\na\r\n2\t\r\nbc\r\n0\r\n\r\nrest", "abc",
		    HTTP_ANSWER_DONE, 26 },
		{ OK "Transfer-Encoding: chunked\r\n\r\n", "1\r\nab\r\n", "a",
		    HTTP_ANSWER_BAD, 5 },
		{ OK "Transfer-Encoding: chunked\r\n\r\n", ";x\r\n", "",
		    HTTP_ANSWER_BAD, 1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FREE char *bytes = xstrdup(rows[i].bytes);
		struct http_answer a;
		size_t used, made;

		assert_int_equal(
		    read_head(&a, rows[i].head, false), HTTP_ANSWER_DONE);
		assert_int_equal(
		    http_answer_body(&a, bytes, strlen(bytes), &used, &made),
		    rows[i].result);
		assert_int_equal(used, rows[i].used);
		assert_int_equal(made, strlen(rows[i].content));
		assert_memory_equal(bytes, rows[i].content, made);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(head_says_how_the_body_is_framed),
		cmocka_unit_test(what_is_no_answer_is_refused),
		cmocka_unit_test(end_of_a_head_is_found_in_any_pieces),
		cmocka_unit_test(folded_lines_become_one),
		cmocka_unit_test(body_is_decoded_in_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
