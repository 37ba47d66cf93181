/* SPDX-License-Identifier: MIT */
/* The scanner of server-sent events: frames, names, data, in any pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/http/sse.h"

/*
 * What is expected of a stream: for each frame the offset behind it, its name
 * and data, written "END:NAME|DATA;"; no '|' where there was no data line.
 */
static const struct {
	const char *name;
	const char *in;
	const char *want;
	bool boundary; /* at the end of the input */
} rows[] = {
	{ "nothing", "", "", true },
	{ "one frame", "data: a\n\n", "9:|a;", true },
	{ "no space behind the colon", "data:a\n\n", "8:|a;", true },
	{ "one space only", "data:  a \n\n", "11:| a ;", true },
	{ "two frames", "data: a\n\ndata: b\n\n", "9:|a;18:|b;", true },
	{ "named", "event: ping\ndata: {}\n\n", "22:ping|{};", true },
	{ "name behind the data", "data: {}\nevent: ping\n\n", "22:ping|{};",
	    true },
	{ "the last name counts", "event: a\nevent: b\ndata: c\n\n", "27:b|c;",
	    true },
	{ "the name is not inherited", "event: a\ndata: b\n\ndata: c\n\n",
	    "18:a|b;27:|c;", true },
	{ "two data lines", "data: a\ndata: b\n\n", "17:|a\nb;", true },
	{ "empty data line", "data:\n\n", "7:|;", true },
	{ "data without a colon", "data\n\n", "6:|;", true },
	{ "empty data lines", "data\ndata:\ndata: \n\n", "19:|\n\n;", true },
	{ "data around another field", "data: a\nid: 7\ndata: b\n\n",
	    "23:|a\nb;", true },
	{ "comment", ": keep-alive\n\n", "14:;", true },
	{ "comment within a frame", ": x\ndata: a\n\n", "13:|a;", true },
	{ "unknown fields", "datax: a\nDATA: b\nretry: 5\n\n", "27:;", true },
	{ "very long field name", "eventeventevent: a\ndata: b\n\n", "28:|b;",
	    true },
	{ "colons in the data", "data: a:b: c\n\n", "14:|a:b: c;", true },
	{ "blank lines between frames", "\n\ndata: a\n\n\n\ndata: b\n\n",
	    "11:|a;22:|b;", true },
	{ "blank lines only", "\r\n\r\n\r\n", "", true },

	{ "CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", "11:|a;22:|b;", true },
	{ "CR", "data: a\r\rdata: b\r\r", "9:|a;18:|b;", true },
	{ "CR then CRLF", "data: a\r\r\ndata: b\n\n", "9:|a;19:|b;", true },
	{ "CRLF then LF", "data: a\r\n\ndata: b\n\n", "10:|a;19:|b;", true },
	{ "LF then CRLF", "data: a\n\r\ndata: b\n\n", "9:|a;19:|b;", true },
	{ "CRLF then CR", "data: a\r\n\rdata: b\n\n", "10:|a;19:|b;", true },
	{ "data lines of each kind", "data: a\r\ndata: b\rdata: c\n\n",
	    "26:|a\nb\nc;", true },

	{ "half a field", "dat", "", false },
	{ "half a line", "data: a", "", false },
	{ "one line", "data: a\n", "", false },
	{ "last LF of CRLF is owed", "data: a\r\n\r", "", false },
	{ "half of the second frame", "data: a\n\ndata: b\n", "9:|a;", false },
	{ "blank CR between frames of CRLF", "data: a\r\n\r\n\r", "11:|a;",
	    false },
};

struct record {
	char text[1024];
	size_t len;
	char data[512];
	size_t data_len;
	size_t at; /* bytes read so far */
};

static void
record_frame(struct record *r, const struct sse *s)
{
	struct span name = sse_name(s);

	r->len += (size_t)snprintf(r->text + r->len, sizeof(r->text) - r->len,
	    "%zu:%.*s%s%.*s;", r->at, (int)name.len, name.p,
	    s->has_data ? "|" : "", (int)r->data_len, r->data);
	assert_true(r->len < sizeof(r->text));
	r->data_len = 0;
}

/* Scans a copy of exactly len bytes, so that overreads are seen. */
static void
scan(struct sse *s, const char *in, size_t len, struct record *r)
{
	char *copy = malloc(len > 0 ? len : 1);
	size_t at = 0;
	size_t used;
	struct span data;
	enum sse_result result;

	assert_non_null(copy);
	memcpy(copy, in, len);
	do {
		result = sse_next(s, copy + at, len - at, &used, &data);
		at += used;
		r->at += used;
		assert_true(at <= len);
		if (result == SSE_DATA) {
			assert_true(data.len > 0);
			memcpy(r->data + r->data_len, data.p, data.len);
			r->data_len += data.len;
		} else if (result == SSE_FRAME) {
			assert_true(sse_at_boundary(s));
			record_frame(r, s);
		}
	} while (result != SSE_MORE);
	assert_int_equal(at, len);
	free(copy);
}

static void
assert_record(size_t row, const struct record *r, const struct sse *s)
{
	if (strcmp(r->text, rows[row].want) != 0 ||
	    sse_at_boundary(s) != rows[row].boundary)
		print_error("%s\n", rows[row].name);
	assert_string_equal(r->text, rows[row].want);
	assert_int_equal(sse_at_boundary(s), rows[row].boundary);
}

static void
frames_are_found_in_any_pieces(void **state)
{
	struct record r;
	struct sse s;
	size_t len;
	size_t cut;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		len = strlen(rows[i].in);
		for (cut = 0; cut <= len; cut++) {
			r = (struct record){ 0 };
			sse_init(&s);
			scan(&s, rows[i].in, cut, &r);
			scan(&s, rows[i].in + cut, len - cut, &r);
			assert_record(i, &r, &s);
		}
		r = (struct record){ 0 };
		sse_init(&s);
		for (cut = 0; cut < len; cut++)
			scan(&s, rows[i].in + cut, 1, &r);
		assert_record(i, &r, &s);
	}
}

static void
boundaries_are_where_frames_end(void **state)
{
	static const char in[] = "\n: x\n\n\ndata: a\n\nevent: b\n\n";
	static const char want[] = "!!....!!........!.........!";
	struct record r = { 0 };
	struct sse s;
	size_t i;

	(void)state;
	sse_init(&s);
	for (i = 0; i < sizeof(in) - 1; i++) {
		assert_int_equal(sse_at_boundary(&s), want[i] == '!');
		scan(&s, in + i, 1, &r);
	}
	assert_true(sse_at_boundary(&s));
}

static void
slices_point_into_the_buffer(void **state)
{
	static const char in[] = "data: hello\n\n";
	struct span data = { NULL, 0 };
	size_t used;
	struct sse s;

	(void)state;
	sse_init(&s);
	assert_int_equal(
	    sse_next(&s, in, sizeof(in) - 1, &used, &data), SSE_DATA);
	assert_ptr_equal(data.p, in + 6);
	assert_int_equal(data.len, 5);
	assert_int_equal(used, 11);
}

static void
a_frame_of_any_size_streams_through(void **state)
{
	size_t size = 4 << 20;
	char *text = malloc(size);
	size_t total = 0;
	size_t used;
	struct span data;
	struct sse s;
	int i;

	(void)state;
	assert_non_null(text);
	memset(text, 'x', size);
	sse_init(&s);
	assert_int_equal(sse_next(&s, "data: ", 6, &used, &data), SSE_MORE);
	for (i = 0; i < 4; i++) {
		assert_int_equal(
		    sse_next(&s, text, size, &used, &data), SSE_DATA);
		assert_int_equal(used, size);
		total += data.len;
	}
	assert_int_equal(total, 4 * size);
	assert_int_equal(sse_next(&s, "\n\n", 2, &used, &data), SSE_FRAME);
	free(text);
}

static void
long_names_are_cut(void **state)
{
	char in[200] = "event: ";
	struct span data;
	struct sse s;
	size_t used;

	(void)state;
	memset(in + 7, 'n', 150);
	memcpy(in + 157, "\n\n", 2);
	sse_init(&s);
	assert_int_equal(sse_next(&s, in, 159, &used, &data), SSE_FRAME);
	assert_int_equal(sse_name(&s).len, SSE_NAME_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_found_in_any_pieces),
		cmocka_unit_test(boundaries_are_where_frames_end),
		cmocka_unit_test(slices_point_into_the_buffer),
		cmocka_unit_test(a_frame_of_any_size_streams_through),
		cmocka_unit_test(long_names_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
