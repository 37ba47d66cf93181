/* SPDX-License-Identifier: MIT */
#include "worker/client/body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "common/alloc.h"

enum { LIMIT = 1 << 20, TOTAL = 2 << 20, TEXT = 600000 };

struct fixture {
	struct config config;
	struct board *board;
	struct worker worker;
	struct http_head head;
	struct body body;
	char text[TEXT];
	char coded[TEXT + 1024];
	size_t coded_len;
};

/* Only the words that a reservation touches are ever used of the board. */
static int
set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	size_t i;

	f->board = calloc(1, sizeof(*f->board));
	assert_non_null(f->board);
	f->config.limits.body = LIMIT;
	f->config.limits.bodies_total = TOTAL;
	f->worker.config = &f->config;
	f->worker.board = f->board;
	f->worker.slot = &f->board->slots[0];
	for (i = 0; i < TEXT; i++)
		f->text[i] = (char)('a' + (i * i / 7) % 23);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	body_release(&f->body);
	assert_int_equal(atomic_load(&f->board->bodies), 0);
	free(f->board);
	free(f);
	return 0;
}

static void
parse(struct fixture *f, const char *headers)
{
	static char text[1024];
	int n = snprintf(text, sizeof(text),
	    "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n", headers);

	http_head_init(&f->head);
	assert_int_equal(
	    http_head_parse(&f->head, text, (size_t)n), HTTP_HEAD_DONE);
}

static void
code_gzip(struct fixture *f, size_t len)
{
	z_stream z = { 0 };

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
	z.next_in = (Bytef *)f->text;
	z.avail_in = (uInt)len;
	z.next_out = (Bytef *)f->coded;
	z.avail_out = sizeof(f->coded);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	f->coded_len = z.total_out;
	(void)deflateEnd(&z);
}

static void
code_zstd(struct fixture *f, size_t len)
{
	f->coded_len =
	    ZSTD_compress(f->coded, sizeof(f->coded), f->text, len, 3);
	assert_false(ZSTD_isError(f->coded_len));
}

static enum body_result
begin_coded(struct fixture *f, const char *coding)
{
	char headers[128];

	(void)snprintf(headers, sizeof(headers),
	    "Content-Length: %zu\r\nContent-Encoding: %s\r\n", f->coded_len,
	    coding);
	parse(f, headers);
	return body_begin(&f->body, &f->worker, &f->head);
}

/* Feeds all of f->coded in pieces; counts the turns that were yielded. */
static enum body_result
feed(struct fixture *f, size_t piece, unsigned *yields)
{
	enum body_result result = BODY_MORE;
	size_t at = 0, used, n;

	*yields = 0;
	while (at < f->coded_len || result == BODY_YIELD) {
		n = f->coded_len - at < piece ? f->coded_len - at : piece;
		result = body_feed(&f->body, f->coded + at, n, &used);
		at += used;
		if (result == BODY_YIELD)
			(*yields)++;
		else if (result != BODY_MORE)
			break;
	}
	return result;
}

static void
a_body_of_known_length_is_read_in_place(void **state)
{
	struct fixture *f = *state;
	size_t room;
	char *to;

	parse(f, "Content-Length: 10\r\n");
	assert_int_equal(body_begin(&f->body, &f->worker, &f->head), BODY_MORE);
	assert_int_equal(f->body.cap, 10);
	to = body_room(&f->body, &room);
	assert_int_equal(room, 10);
	memcpy(to, "01234", 5);
	assert_int_equal(body_added(&f->body, 5), BODY_MORE);
	to = body_room(&f->body, &room);
	memcpy(to, "56789", 5);
	assert_int_equal(body_added(&f->body, 5), BODY_DONE);
	assert_memory_equal(f->body.data, "0123456789", 10);
}

static void
no_body_is_done_at_once(void **state)
{
	struct fixture *f = *state;

	parse(f, "Content-Length: 0\r\n");
	assert_int_equal(body_begin(&f->body, &f->worker, &f->head), BODY_DONE);
	parse(f, "");
	assert_int_equal(body_begin(&f->body, &f->worker, &f->head), BODY_DONE);
}

static void
codings_decode_in_pieces_and_yield_between_slices(void **state)
{
	static void (*const coders[])(
	    struct fixture * f, size_t len) = { code_gzip, code_zstd };
	static const char *const names[] = { "gzip", "zstd" };
	static const size_t pieces[] = { 1, 77, 16384, TEXT };
	struct fixture *f = *state;
	unsigned yields;
	size_t i, k;

	for (i = 0; i < ARRAY_LEN(coders); i++) {
		coders[i](f, TEXT);
		for (k = 0; k < ARRAY_LEN(pieces); k++) {
			assert_int_equal(begin_coded(f, names[i]), BODY_MORE);
			assert_int_equal(
			    feed(f, pieces[k], &yields), BODY_DONE);
			assert_int_equal(f->body.len, TEXT);
			assert_memory_equal(f->body.data, f->text, TEXT);
			if (pieces[k] == TEXT)
				assert_true(yields >= 1);
			body_release(&f->body);
		}
	}
}

static void
a_broken_or_cut_coding_is_refused(void **state)
{
	struct fixture *f = *state;
	unsigned yields;

	code_gzip(f, 5000);
	f->coded_len -= 9;
	assert_int_equal(begin_coded(f, "gzip"), BODY_MORE);
	assert_int_equal(feed(f, 500, &yields), BODY_BAD_ENCODING);
	body_release(&f->body);
	code_zstd(f, 5000);
	f->coded[10] ^= 0x55;
	f->coded[0] ^= 0x55;
	assert_int_equal(begin_coded(f, "zstd"), BODY_MORE);
	assert_int_equal(feed(f, 500, &yields), BODY_BAD_ENCODING);
	body_release(&f->body);
	/* Bytes behind the end of the coding are no part of it. */
	code_gzip(f, 100);
	f->coded_len += 3;
	assert_int_equal(begin_coded(f, "gzip"), BODY_MORE);
	assert_int_equal(feed(f, 5000, &yields), BODY_BAD_ENCODING);
}

static void
limits_hold_before_and_after_decoding(void **state)
{
	struct fixture *f = *state;
	unsigned yields;

	parse(f, "Content-Length: 1048577\r\n");
	assert_int_equal(
	    body_begin(&f->body, &f->worker, &f->head), BODY_TOO_LARGE);
	body_release(&f->body);

	f->config.limits.body = 100000;
	memset(f->text, 'x', TEXT);
	code_gzip(f, TEXT);
	assert_true(f->coded_len < 100000);
	assert_int_equal(begin_coded(f, "gzip"), BODY_MORE);
	assert_int_equal(feed(f, 5000, &yields), BODY_TOO_LARGE);
	assert_true(f->body.cap <= 100000);
}

static void
the_reservation_of_all_is_made_first(void **state)
{
	struct fixture *f = *state;

	assert_true(
	    board_bodies_take(f->board, f->worker.slot, TOTAL - 500, TOTAL));
	parse(f, "Content-Length: 501\r\n");
	assert_int_equal(
	    body_begin(&f->body, &f->worker, &f->head), BODY_OVERLOADED);
	body_release(&f->body);
	parse(f, "Content-Length: 500\r\n");
	assert_int_equal(body_begin(&f->body, &f->worker, &f->head), BODY_MORE);
	assert_int_equal(atomic_load(&f->board->bodies), TOTAL);
	body_release(&f->body);
	board_bodies_give(f->board, f->worker.slot, TOTAL - 500);
}

static void
chunks_are_taken_apart(void **state)
{
	char wire[] = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /";
	struct fixture *f = *state;
	size_t used;

	parse(f, "Transfer-Encoding: chunked\r\n");
	assert_int_equal(body_begin(&f->body, &f->worker, &f->head), BODY_MORE);
	assert_int_equal(
	    body_feed(&f->body, wire, sizeof(wire) - 1, &used), BODY_DONE);
	assert_int_equal(used, sizeof(wire) - 1 - 5);
	assert_int_equal(f->body.len, 11);
	assert_memory_equal(f->body.data, "hello world", 11);
}

/* Puts f->coded into chunks of that size, with more behind the last one. */
static void
chunk_coded(struct fixture *f, size_t size)
{
	static char plain[sizeof(f->coded)];
	size_t at, n, len = f->coded_len;

	memcpy(plain, f->coded, len);
	f->coded_len = 0;
	for (at = 0; at < len; at += n) {
		n = len - at < size ? len - at : size;
		f->coded_len +=
		    (size_t)snprintf(f->coded + f->coded_len, 32, "%zx\r\n", n);
		memcpy(f->coded + f->coded_len, plain + at, n);
		memcpy(f->coded + f->coded_len + n, "\r\n", 2);
		f->coded_len += n + 2;
	}
	f->coded_len +=
	    (size_t)snprintf(f->coded + f->coded_len, 32, "0\r\n\r\nGET /");
}

static void
chunks_of_a_coding_yield_and_lose_nothing(void **state)
{
	static const size_t pieces[] = { 1, 77, TEXT };
	static const size_t chunks[] = { 1, 900, TEXT };
	struct fixture *f = *state;
	size_t i, k, at, used, n;
	enum body_result result;
	unsigned yields;

	memset(f->text, 'x', TEXT);
	for (i = 0; i < ARRAY_LEN(pieces); i++) {
		for (k = 0; k < ARRAY_LEN(chunks); k++) {
			code_gzip(f, TEXT);
			chunk_coded(f, chunks[k]);
			parse(f, "Transfer-Encoding: chunked\r\n"
				 "Content-Encoding: gzip\r\n");
			result = body_begin(&f->body, &f->worker, &f->head);
			assert_int_equal(result, BODY_MORE);
			for (at = yields = 0; result != BODY_DONE; at += used) {
				n = f->coded_len - at;
				if (n > pieces[i])
					n = pieces[i];
				if (body_waits(&f->body))
					yields++;
				result = body_feed(
				    &f->body, f->coded + at, n, &used);
				assert_true(result <= BODY_YIELD);
				if (result == BODY_MORE)
					assert_int_equal(used, n);
			}
			assert_int_equal(f->coded_len - at, 5);
			assert_memory_equal(f->coded + at, "GET /", 5);
			assert_int_equal(f->body.len, TEXT);
			assert_memory_equal(f->body.data, f->text, TEXT);
			if (pieces[i] == TEXT)
				assert_true(yields >= TEXT / BODY_SLICE);
			body_release(&f->body);
		}
	}
}

static void
members_that_follow_each_other_are_one_body(void **state)
{
	static void (*const coders[])(
	    struct fixture * f, size_t len) = { code_gzip, code_zstd };
	static const char *const names[] = { "gzip", "zstd" };
	static const size_t pieces[] = { 1, 77, TEXT };
	struct fixture *f = *state;
	unsigned yields;
	size_t i, k, len;

	for (i = 0; i < ARRAY_LEN(coders); i++) {
		coders[i](f, 50000);
		len = f->coded_len;
		memcpy(f->coded + len, f->coded, len);
		f->coded_len *= 2;
		for (k = 0; k < ARRAY_LEN(pieces); k++) {
			assert_int_equal(begin_coded(f, names[i]), BODY_MORE);
			assert_int_equal(
			    feed(f, pieces[k], &yields), BODY_DONE);
			assert_int_equal(f->body.len, 100000);
			assert_memory_equal(f->body.data, f->text, 50000);
			assert_memory_equal(
			    f->body.data + 50000, f->text, 50000);
			body_release(&f->body);
		}
		/* The second one is cut, or is none. */
		f->coded_len--;
		assert_int_equal(begin_coded(f, names[i]), BODY_MORE);
		assert_int_equal(feed(f, 500, &yields), BODY_BAD_ENCODING);
		body_release(&f->body);
		f->coded[len] ^= 0x55;
		assert_int_equal(begin_coded(f, names[i]), BODY_MORE);
		assert_int_equal(feed(f, TEXT, &yields), BODY_BAD_ENCODING);
		body_release(&f->body);
	}
}

/* Whose last byte is out when its checksum is still to come. */
static void
a_coded_body_may_be_as_large_as_the_limit(void **state)
{
	struct fixture *f = *state;
	unsigned yields;
	int over;

	memset(f->text, 'x', TEXT);
	for (over = 0; over < 2; over++) {
		f->config.limits.body = 200000 - over;
		code_gzip(f, 200000);
		assert_int_equal(begin_coded(f, "gzip"), BODY_MORE);
		assert_int_equal(
		    feed(f, 1, &yields), over ? BODY_TOO_LARGE : BODY_DONE);
		assert_true(f->body.cap <= 200000);
		body_release(&f->body);
	}
}

static void
a_body_that_is_complete_gives_back_what_it_does_not_need(void **state)
{
	struct fixture *f = *state;
	unsigned yields;

	code_gzip(f, 300000);
	assert_int_equal(begin_coded(f, "gzip"), BODY_MORE);
	assert_int_equal(feed(f, 5000, &yields), BODY_DONE);
	assert_int_equal(f->body.cap, 300000);
	assert_int_equal(atomic_load(&f->board->bodies), 300000);
	assert_memory_equal(f->body.data, f->text, 300000);
}

static void
an_unknown_coding_is_told_apart(void **state)
{
	struct fixture *f = *state;

	f->coded_len = 5;
	assert_int_equal(begin_coded(f, "br"), BODY_UNKNOWN_CODING);
	body_release(&f->body);
	assert_int_equal(begin_coded(f, "gzip, zstd"), BODY_UNKNOWN_CODING);
	body_release(&f->body);
	assert_int_equal(begin_coded(f, "identity"), BODY_MORE);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_body_of_known_length_is_read_in_place),
		CASE(no_body_is_done_at_once),
		CASE(codings_decode_in_pieces_and_yield_between_slices),
		CASE(a_broken_or_cut_coding_is_refused),
		CASE(limits_hold_before_and_after_decoding),
		CASE(the_reservation_of_all_is_made_first),
		CASE(chunks_are_taken_apart),
		CASE(chunks_of_a_coding_yield_and_lose_nothing),
		CASE(members_that_follow_each_other_are_one_body),
		CASE(a_coded_body_may_be_as_large_as_the_limit),
		CASE(a_body_that_is_complete_gives_back_what_it_does_not_need),
		CASE(an_unknown_coding_is_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
