/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/dialect/collect.h"

/* Feeds a stream in pieces of that size; what came of it. */
static enum collect_result
feed(struct collect *c, const char *stream, size_t piece)
{
	enum collect_result result = COLLECT_MORE;
	size_t len = strlen(stream);

	collect_init(c);
	for (size_t at = 0; at < len && result == COLLECT_MORE; at += piece)
		result = collect_feed(
		    c, stream + at, len - at < piece ? len - at : piece);
	return result;
}

static void
check(const char *stream, const char *wanted)
{
	static const size_t pieces[] = { 1, 2, 7, 1024 * 1024 };

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		struct collect c;
		struct span got;

		assert_int_equal(feed(&c, stream, pieces[i]),
		    wanted != NULL ? COLLECT_DONE : COLLECT_MORE);
		if (wanted != NULL) {
			got = collect_answer(&c);
			assert_int_equal(got.len, strlen(wanted));
			assert_memory_equal(got.p, wanted, got.len);
		}
		collect_fini(&c);
	}
}

static void
answer_is_the_response_of_the_terminal_event(void **state UNUSED)
{
	check("event: response.created\n"
	      "data: {\"type\":\"response.created\",\"response\":{\"no\":1}}\n"
	      "\n"
	      ": comment\n\n"
	      "event: response.completed\n"
	      "data: {\"type\":\"response.completed\", \"response\" : "
	      "{\"id\":\"r\", \"n\":1.0,\"output\":[{\"a\":[]}]} }\n\n"
	      "data: {\"type\":\"response.completed\",\"response\":{}}\n\n",
	    "{\"id\":\"r\", \"n\":1.0,\"output\":[{\"a\":[]}]}");
	check(
	    "data: {\"type\":\"response.incomplete\",\"response\":{}}\r\n\r\n",
	    "{}");
}

static void
empty_output_is_filled_with_the_items_told_done(void **state UNUSED)
{
	check(
	    "data: {\"type\":\"response.output_item.added\",\"item\":{}}\n\n"
	    "data: {\"type\":\"response.output_item.done\",\"output_index\":0,"
	    "\"item\":{\"id\":\"one\"}}\n\n"
	    "data: {\"type\":\"response.output_item.done\","
	    "\"item\":{\"id\":\"two\"}}\n\n"
	    "data: {\"type\":\"response.completed\",\"response\":"
	    "{\"output\":[ ],\"z\":0}}\n\n",
	    "{\"output\":[{\"id\":\"one\"},{\"id\":\"two\"} ],\"z\":0}");
}

static void
output_that_is_there_is_left_alone(void **state UNUSED)
{
	check("data: {\"type\":\"response.output_item.done\","
	      "\"item\":{\"id\":\"one\"}}\n\n"
	      "data: {\"type\":\"response.completed\",\"response\":"
	      "{\"output\":[7]}}\n\n",
	    "{\"output\":[7]}");
	check("data: {\"type\":\"response.completed\",\"response\":"
	      "{\"output\":[]}}\n\n",
	    "{\"output\":[]}");
}

static void
stream_without_a_terminal_event_gives_no_answer(void **state UNUSED)
{
	check("data: {\"type\":\"response.output_text.delta\"}\n\n", NULL);
	check("data: {\"type\":\"response.completed\"}\n\n", NULL);
	check("data: {\"type\":\"response.completed\",\"response\":{}}x\n\n",
	    NULL);
	check("data: {\"type\":\"response.completed\",\"response\":{}}", NULL);
	check("data: [DONE]\n\n", NULL);
	check("data: 7\n\ndata: []\n\ndata:\n\n", NULL);
}

static void
answer_beyond_its_bound_is_refused(void **state UNUSED)
{
	enum { PIECE = 1024 * 1024 };
	char *piece = malloc(PIECE);
	enum collect_result result;
	struct collect c;
	int n = 0;

	memset(piece, 'x', PIECE);
	collect_init(&c);
	assert_int_equal(collect_feed(&c, "data: ", 6), COLLECT_MORE);
	do
		result = collect_feed(&c, piece, PIECE);
	while (result == COLLECT_MORE && ++n < 100);
	assert_int_equal(result, COLLECT_TOO_LARGE);
	assert_true(n <= COLLECT_MAX / PIECE);
	collect_fini(&c);
	free(piece);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answer_is_the_response_of_the_terminal_event),
		cmocka_unit_test(
		    empty_output_is_filled_with_the_items_told_done),
		cmocka_unit_test(output_that_is_there_is_left_alone),
		cmocka_unit_test(
		    stream_without_a_terminal_event_gives_no_answer),
		cmocka_unit_test(answer_beyond_its_bound_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
