/* SPDX-License-Identifier: MIT */
/* The chunked decoder: what it takes, what it refuses, in any pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/http/http_chunk.h"

#define LAST    "0\r\n\r\n"
#define ROW(s)  (s), sizeof(s) - 1
#define NO_BODY "", 0

enum { LIMIT = 64 };

static const struct {
	const char *name;
	const char *in;
	size_t len;
	enum http_chunk_result want;
	const char *body;
	size_t rest; /* bytes behind the end */
} rows[] = {
	{ "empty body", ROW(LAST), HTTP_CHUNK_DONE, NO_BODY },
	{ "one chunk", ROW("3\r\nabc\r\n" LAST), HTTP_CHUNK_DONE, "abc", 0 },
	{ "two chunks", ROW("3\r\nabc\r\n1\r\nd\r\n" LAST), HTTP_CHUNK_DONE,
	    "abcd", 0 },
	{ "hexadecimal in both cases",
	    ROW("A\r\n0123456789\r\nb\r\n0123456789a\r\n" LAST),
	    HTTP_CHUNK_DONE, "01234567890123456789a", 0 },
	{ "leading zeros", ROW("0003\r\nabc\r\n000\r\n\r\n"), HTTP_CHUNK_DONE,
	    "abc", 0 },
	{ "line ends within the data", ROW("4\r\n\r\n\r\n\r\n" LAST),
	    HTTP_CHUNK_DONE, "\r\n\r\n", 0 },
	{ "next request behind", ROW("1\r\na\r\n" LAST "GET /"),
	    HTTP_CHUNK_DONE, "a", 5 },
	{ "trailers are dropped",
	    ROW("1\r\na\r\n0\r\nA: b\r\nX-C:\td \r\n\r\nGET"), HTTP_CHUNK_DONE,
	    "a", 3 },
	{ "as much as allowed",
	    ROW("40\r\n0123456789abcdef0123456789abcdef"
		"0123456789abcdef0123456789abcdef\r\n" LAST),
	    HTTP_CHUNK_DONE,
	    "0123456789abcdef0123456789abcdef"
	    "0123456789abcdef0123456789abcdef",
	    0 },

	{ "nothing yet", ROW(""), HTTP_CHUNK_MORE, NO_BODY },
	{ "half a size", ROW("3"), HTTP_CHUNK_MORE, NO_BODY },
	{ "half a chunk", ROW("3\r\nab"), HTTP_CHUNK_MORE, "ab", 0 },
	{ "no last chunk", ROW("3\r\nabc\r\n"), HTTP_CHUNK_MORE, "abc", 0 },
	{ "no empty line", ROW("0\r\n"), HTTP_CHUNK_MORE, NO_BODY },
	{ "half the empty line", ROW("0\r\n\r"), HTTP_CHUNK_MORE, NO_BODY },
	{ "half a trailer", ROW("0\r\nA: "), HTTP_CHUNK_MORE, NO_BODY },

	{ "no size", ROW("\r\nabc"), HTTP_CHUNK_BAD, NO_BODY },
	{ "no digit", ROW("x\r\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "0x", ROW("0x3\r\nabc\r\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "minus", ROW("-1\r\na\r\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "plus", ROW("+1\r\na\r\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "space in front", ROW(" 1\r\na\r\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "space behind", ROW("1 \r\na\r\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "extension", ROW("1;a=b\r\na\r\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "bare LF behind the size", ROW("1\na\r\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "bare CR behind the size", ROW("1\ra\r\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "bare LF behind the data", ROW("1\r\na\n1\r\n"), HTTP_CHUNK_BAD,
	    NO_BODY },
	{ "data longer than its size", ROW("1\r\nab\r\n"), HTTP_CHUNK_BAD,
	    NO_BODY },
	{ "17 digits", ROW("00000000000000001\r\na\r\n"), HTTP_CHUNK_BAD,
	    NO_BODY },
	{ "overflow", ROW("fffffffffffffffff\r\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "bare LF at the end", ROW("0\r\n\n"), HTTP_CHUNK_BAD, NO_BODY },
	{ "no LF at the end", ROW("0\r\n\rx"), HTTP_CHUNK_BAD, NO_BODY },
	{ "trailer without a name", ROW("0\r\n: b\r\n\r\n"), HTTP_CHUNK_BAD,
	    NO_BODY },
	{ "trailer without a colon", ROW("0\r\nab\r\n\r\n"), HTTP_CHUNK_BAD,
	    NO_BODY },
	{ "space in the name of a trailer", ROW("0\r\na : b\r\n\r\n"),
	    HTTP_CHUNK_BAD, NO_BODY },
	{ "folded trailer", ROW("0\r\na: b\r\n c\r\n\r\n"), HTTP_CHUNK_BAD,
	    NO_BODY },
	{ "NUL in a trailer", ROW("0\r\na: \0\r\n\r\n"), HTTP_CHUNK_BAD,
	    NO_BODY },
	{ "bare LF behind a trailer", ROW("0\r\na: b\n\r\n"), HTTP_CHUNK_BAD,
	    NO_BODY },

	{ "one byte too many", ROW("41\r\n"), HTTP_CHUNK_TOO_LARGE, NO_BODY },
	{ "largest size", ROW("ffffffffffffffff\r\n"), HTTP_CHUNK_TOO_LARGE,
	    NO_BODY },
	{ "sum that overflows 64 bits", ROW("1\r\na\r\nffffffffffffffff\r\n"),
	    HTTP_CHUNK_TOO_LARGE, "a", 0 },
	{ "too much in all", ROW("1\r\na\r\n40\r\n"), HTTP_CHUNK_TOO_LARGE, "a",
	    0 },
};

struct outcome {
	enum http_chunk_result result;
	size_t used;
	size_t len;
	char body[256];
};

/* Decodes a copy of some bytes and adds what comes out. */
static void
feed(struct http_chunk *c, const char *in, size_t len, struct outcome *o)
{
	char *copy = malloc(len > 0 ? len : 1);
	size_t used;
	size_t made;

	assert_non_null(copy);
	memcpy(copy, in, len);
	o->result = http_chunk_decode(c, copy, len, &used, &made);
	assert_true(used <= len && made <= used);
	memcpy(o->body + o->len, copy, made);
	o->len += made;
	o->used += used;
	free(copy);
}

static void
decode_in_two(const char *in, size_t len, size_t cut, struct outcome *o)
{
	struct http_chunk c;

	*o = (struct outcome){ 0 };
	http_chunk_init(&c, LIMIT);
	feed(&c, in, cut, o);
	if (o->result == HTTP_CHUNK_MORE) {
		assert_int_equal(o->used, cut);
		feed(&c, in + cut, len - cut, o);
	}
}

static void
decode_bytewise(const char *in, size_t len, struct outcome *o)
{
	struct http_chunk c;
	size_t i;

	*o = (struct outcome){ 0 };
	http_chunk_init(&c, LIMIT);
	o->result = HTTP_CHUNK_MORE;
	for (i = 0; i < len && o->result == HTTP_CHUNK_MORE; i++)
		feed(&c, in + i, 1, o);
}

static void
assert_outcome(size_t row, const struct outcome *o)
{
	if (o->result != rows[row].want)
		print_error("%s\n", rows[row].name);
	assert_int_equal(o->result, rows[row].want);
	if (o->result > HTTP_CHUNK_MORE && rows[row].body[0] == '\0')
		return;
	assert_int_equal(o->len, strlen(rows[row].body));
	assert_memory_equal(o->body, rows[row].body, o->len);
	if (o->result == HTTP_CHUNK_DONE)
		assert_int_equal(o->used, rows[row].len - rows[row].rest);
}

static void
each_body_has_its_outcome_in_any_pieces(void **state)
{
	struct outcome o;
	size_t cut;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (cut = 0; cut <= rows[i].len; cut++) {
			decode_in_two(rows[i].in, rows[i].len, cut, &o);
			assert_outcome(i, &o);
		}
		decode_bytewise(rows[i].in, rows[i].len, &o);
		assert_outcome(i, &o);
	}
}

static void
a_body_is_refused_when_its_size_is_announced(void **state)
{
	char in[] = "5\r\nabcde\r\n";
	struct http_chunk c;
	size_t used;
	size_t made;

	(void)state;
	http_chunk_init(&c, 4);
	assert_int_equal(
	    http_chunk_decode(&c, in, 3, &used, &made), HTTP_CHUNK_TOO_LARGE);
	assert_int_equal(made, 0);
	http_chunk_init(&c, 5);
	assert_int_equal(
	    http_chunk_decode(&c, in, 3, &used, &made), HTTP_CHUNK_MORE);
	assert_int_equal(c.total, 5);
}

static void
trailers_are_bounded(void **state)
{
	static char in[HTTP_CHUNK_TRAILER_MAX + 64] = "0\r\na:";
	struct http_chunk c;
	size_t used;
	size_t made;

	(void)state;
	memset(in + 5, 'x', sizeof(in) - 5);
	http_chunk_init(&c, LIMIT);
	assert_int_equal(
	    http_chunk_decode(&c, in, 3 + HTTP_CHUNK_TRAILER_MAX, &used, &made),
	    HTTP_CHUNK_MORE);
	assert_int_equal(
	    http_chunk_decode(&c, in, 1, &used, &made), HTTP_CHUNK_BAD);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_body_has_its_outcome_in_any_pieces),
		cmocka_unit_test(a_body_is_refused_when_its_size_is_announced),
		cmocka_unit_test(trailers_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
