/* SPDX-License-Identifier: MIT */
/* The counts of whole answers and of streams, however they come in pieces. */
#include "worker/dialect/token_count.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"
#include "worker/dialect/dialect_stream.h"

#define O DIALECT_OPENAI
#define R DIALECT_RESPONSES
#define C DIALECT_CLAUDE
#define G DIALECT_GEMINI

#define DATA(json)        "data: " json "\n\n"
#define NAMED(name, json) "event: " name "\ndata: " json "\n\n"
#define DELTA(text)                                                            \
	DATA("{\"choices\":[{\"delta\":{\"content\":\"" text                   \
	     "\"},\"finish_reason\":null}],\"usage\":null}")
#define CANDIDATE(text, more)                                                  \
	DATA("{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"" text     \
	     "\"}]}" more "}")

static const struct {
	enum dialect dialect;
	enum dialect_framing framing;
	const char *text;
	int64_t n[TOKENS_MAX]; /* in, out, cached, written, thought, total */
} rows[] = {
	/* Whole answers */
	{ O, DIALECT_JSON,
	    "{\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":6,"
	    "\"total_tokens\":16,"
	    "\"prompt_tokens_details\":{\"cached_tokens\":4},"
	    "\"completion_tokens_details\":{\"reasoning_tokens\":5}}}",
	    { 10, 6, 4, -1, 5, 16 } },
	{ O, DIALECT_JSON, "{\"usage\":{\"prompt_tokens\":8}}",
	    { 8, -1, -1, -1, -1, 8 } },
	{ O, DIALECT_JSON,
	    "{\"usage\":{\"prompt_tokens\":0,\"total_tokens\":0}}",
	    { 0, -1, -1, -1, -1, 0 } },
	{ R, DIALECT_JSON,
	    "{\"object\":\"response\",\"output\":[{\"usage\":{\"input_tokens\":"
	    "7}}],\"usage\":{\"input_tokens\":100,\"output_tokens\":20,"
	    "\"input_tokens_details\":{\"cached_tokens\":30,"
	    "\"cache_write_tokens\":40},\"total_tokens\":120}}",
	    { 100, 20, 30, 40, -1, 120 } },
	{ C, DIALECT_JSON,
	    "{\"id\":1,\"usage\":{\"input_tokens\":3085,"
	    "\"output_tokens\":253,\"cache_read_input_tokens\":7,"
	    "\"cache_creation_input_tokens\":19514}}",
	    { 3085, 253, 7, 19514, -1, 22859 } },
	{ C, DIALECT_JSON,
	    "{\"usage\":{\"input_tokens\":3085,\"output_tokens\":253,"
	    "\"cache_read_input_tokens\":0,"
	    "\"cache_creation_input_tokens\":19514}}",
	    { 3085, 253, 19514, 19514, -1, 22852 } },
	{ C, DIALECT_JSON,
	    "{\"usage\":{\"input_tokens\":2,\"output_tokens\":244,"
	    "\"cache_read_input_tokens\":44225,"
	    "\"cache_creation_input_tokens\":831,"
	    "\"output_tokens_details\":{\"thinking_tokens\":40}}}",
	    { 2, 244, 44225, 831, 40, 45302 } },
	{ G, DIALECT_JSON,
	    "{\"usageMetadata\":{\"promptTokenCount\":10,"
	    "\"candidatesTokenCount\":2,\"thoughtsTokenCount\":3,"
	    "\"toolUsePromptTokenCount\":5,\"totalTokenCount\":20}}",
	    { 15, 2, -1, -1, 3, 20 } },
	{ G, DIALECT_JSON,
	    "{\"response\":{\"usageMetadata\":{\"promptTokenCount\":10,"
	    "\"cachedContentTokenCount\":4,\"candidatesTokenCount\":2,"
	    "\"thoughtsTokenCount\":3}}}",
	    { 10, 2, 4, -1, 3, 15 } },

	/* What is no count */
	{ O, DIALECT_JSON,
	    "{\"usage\":{\"prompt_tokens\":-4,\"completion_tokens\":1.5,"
	    "\"total_tokens\":12345678901234567890}}",
	    { -1, -1, -1, -1, -1, -1 } },
	{ O, DIALECT_JSON, "{\"usage\":null}", { -1, -1, -1, -1, -1, -1 } },
	{ O, DIALECT_JSON, "{\"deep\":{\"usage\":{\"prompt_tokens\":1}}}",
	    { -1, -1, -1, -1, -1, -1 } },
	{ O, DIALECT_JSON, "[1]", { -1, -1, -1, -1, -1, -1 } },

	/* Streams */
	{ O, DIALECT_SSE,
	    DELTA("Hi") DELTA("\\\"usage\\\":{\\\"prompt_tokens\\\":9}")
		DATA("{\"choices\":[],\"usage\":{\"prompt_tokens\":10,"
		     "\"completion_tokens\":6,\"total_tokens\":16,"
		     "\"prompt_tokens_details\":{\"cached_tokens\":4},"
		     "\"completion_tokens_details\":{\"reasoning_tokens\":5}}}")
		    DATA("[DONE]"),
	    { 10, 6, 4, -1, 5, 16 } },
	{ O, DIALECT_SSE, DELTA("Hi") DELTA("ho") DATA("[DONE]"),
	    { -1, -1, -1, -1, -1, -1 } },
	{ R, DIALECT_SSE,
	    NAMED("response.created",
		"{\"type\":\"response.created\",\"sequence_number\":0,"
		"\"response\":{\"usage\":null}}")
		NAMED("response.output_text.delta", "{\"delta\":\"x\"}") NAMED(
		    "response.completed",
		    "{\"type\":\"response.completed\",\"sequence_number\":2,"
		    "\"response\":{\"output\":[{\"text\":\"x\"}],\"usage\":{"
		    "\"input_tokens\":100,\"input_tokens_details\":{"
		    "\"cached_tokens\":30},\"output_tokens\":20,"
		    "\"output_tokens_details\":{\"reasoning_tokens\":8},"
		    "\"total_tokens\":120}}}"),
	    { 100, 20, 30, -1, 8, 120 } },
	{ C, DIALECT_SSE,
	    NAMED("message_start",
		"{\"type\":\"message_start\",\"message\":{\"usage\":{"
		"\"input_tokens\":2,\"cache_read_input_tokens\":44225,"
		"\"cache_creation_input_tokens\":831,\"output_tokens\":1}}}")
		NAMED("content_block_delta",
		    "{\"delta\":{\"text\":\"x\"},\"usage\":{\"input_tokens\":"
		    "5}}") NAMED("message_delta",
		    "{\"type\":\"message_delta\",\"delta\":{},\"usage\":{"
		    "\"output_tokens\":244,\"thinking_tokens\":40}}"),
	    { 2, 244, 44225, 831, 40, 45302 } },
	/* One that broke off says what it had said. */
	{ C, DIALECT_SSE,
	    NAMED("message_start",
		"{\"type\":\"message_start\",\"message\":{\"usage\":{"
		"\"input_tokens\":9,\"output_tokens\":1}}}"),
	    { 9, 1, -1, -1, -1, 10 } },
	{ G, DIALECT_SSE,
	    CANDIDATE("a", "}],\"usageMetadata\":{\"promptTokenCount\":0,"
			   "\"totalTokenCount\":0}") CANDIDATE("b",
		"}],\"usageMetadata\":{\"promptTokenCount\":10,"
		"\"candidatesTokenCount\":1,\"totalTokenCount\":11}"),
	    { 10, 1, -1, -1, -1, 11 } },
	{ G, DIALECT_SSE,
	    CANDIDATE("a", "}],\"usageMetadata\":{\"promptTokenCount\":10,"
			   "\"candidatesTokenCount\":1,\"totalTokenCount\":11}")
		CANDIDATE("usageMetadata",
		    ",\"finishReason\":\"STOP\"}],"
		    "\"usageMetadata\":{\"promptTokenCount\":10,"
		    "\"candidatesTokenCount\":2,\"thoughtsTokenCount\":3,"
		    "\"toolUsePromptTokenCount\":5,\"totalTokenCount\":20}"),
	    { 15, 2, -1, -1, 3, 20 } },
	{ G, DIALECT_JSON,
	    "[{\"usageMetadata\":{\"promptTokenCount\":3}},"
	    "{\"usageMetadata\":{\"promptTokenCount\":4}}]",
	    { 4, -1, -1, -1, -1, 4 } },
};

static void
read_pieces(struct dialect_stream *st, const char *p, size_t len, size_t step)
{
	struct dialect_frame frame;
	size_t n, used;

	for (; len > 0; p += n, len -= n) {
		n = len < step ? len : step;
		for (size_t at = 0; at < n; at += used)
			if (dialect_stream_next(st, p + at, n - at, &used,
				&frame) == DIALECT_MORE)
				break;
	}
}

static void
tokens_are_counted_in_every_dialect(void **state UNUSED)
{
	static const size_t steps[] = { SIZE_MAX, 64, 7, 1 };
	struct dialect_stream st;
	struct tokens t;

	for (size_t i = 0; i < ARRAY_LEN(rows) * ARRAY_LEN(steps); i++) {
		size_t row = i / ARRAY_LEN(steps);
		bool found, said = false;

		dialect_stream_init(&st, rows[row].dialect, rows[row].framing);
		read_pieces(&st, rows[row].text, strlen(rows[row].text),
		    steps[i % ARRAY_LEN(steps)]);
		found = dialect_stream_tokens(&st, &t);
		for (int k = 0; k < TOKENS_MAX; k++) {
			if (t.n[k] != rows[row].n[k])
				print_error(
				    "row %zu: %s\n", row, token_kind_names[k]);
			assert_int_equal(t.n[k], rows[row].n[k]);
			said |= t.n[k] >= 0;
		}
		assert_int_equal(found, said);
	}
}

static void
a_number_in_pieces_is_one_number(void **state UNUSED)
{
	struct token_count c;
	struct tokens t;

	token_count_clear(&c);
	assert_false(token_count_sum(&c, O, &t));
	token_count_read(&c, TOKEN_FIELD_INPUT, "12", 2, true);
	token_count_read(&c, TOKEN_FIELD_INPUT, "34", 2, false);
	token_count_read(&c, TOKEN_FIELD_OUTPUT, "5", 1, true);
	token_count_read(&c, TOKEN_FIELD_OUTPUT, "e3", 2, false);
	assert_true(token_count_sum(&c, O, &t));
	assert_int_equal(t.n[TOKENS_INPUT], 1234);
	assert_int_equal(t.n[TOKENS_OUTPUT], -1);
	assert_int_equal(t.n[TOKENS_TOTAL], 1234);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_are_counted_in_every_dialect),
		cmocka_unit_test(a_number_in_pieces_is_one_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
