/* SPDX-License-Identifier: MIT */
/* What the frames of upstreams are taken for, in each dialect. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/dialect/dialect_stream.h"

#define O DIALECT_OPENAI
#define R DIALECT_RESPONSES
#define C DIALECT_CLAUDE
#define G DIALECT_GEMINI

#define NAMED(name, data) "event: " name "\ndata: " data "\n\n"
#define DATA(data)        "data: " data "\n\n"
#define DELTA(delta, finish)                                                   \
	DATA("{\"id\":\"c\",\"object\":\"chat.completion.chunk\","             \
	     "\"choices\":[{\"index\":0,\"delta\":{" delta                     \
	     "},\"finish_reason\":" finish "}]}")
#define CANDIDATE(more) "{\"candidates\":[{" more "}]}"
#define PARTS(text)     "\"content\":{\"parts\":[{\"text\":\"" text "\"}]}"

/*
 * Verdicts as letters: preface, content, terminal, and an error as its
 * status; '!' at the end: the answer is complete.
 */
static const struct {
	enum dialect dialect;
	enum dialect_framing framing;
	const char *in;
	const char *want;
} rows[] = {
	/* Chat completions */
	{ O, DIALECT_SSE,
	    DELTA("\"role\":\"assistant\",\"content\":\"\"", "null")
		DELTA("\"content\":\"Hi\"", "null") DELTA("", "\"stop\"")
		    DATA("{\"choices\":[],\"usage\":{}}") DATA("[DONE]"),
	    "p c c c t !" },
	{ O, DIALECT_SSE, DELTA("\"content\":null,\"refusal\":null", "null"),
	    "p" },
	{ O, DIALECT_SSE, DELTA("\"content\":[]", "null"), "p" },
	{ O, DIALECT_SSE, DELTA("\"tool_calls\":[{\"index\":0}]", "null"),
	    "c" },
	{ O, DIALECT_SSE, DELTA("\"reasoning_content\":\"x\"", "null"), "c" },
	{ O, DIALECT_SSE, DELTA("\"content\":\"Hi\"", "\"length\""), "c !" },
	{ O, DIALECT_SSE, DELTA("", "\"\""), "p" },
	{ O, DIALECT_SSE, DATA("{\"choices\":[{\"text\":\"x\"}]}"), "c" },
	{ O, DIALECT_SSE, DATA("{\"choices\":[{\"text\":\"\"}]}"), "p" },
	{ O, DIALECT_SSE, DATA(" [DONE] "), "t !" },
	{ O, DIALECT_SSE, DATA("[DONE]x"), "p" },
	{ O, DIALECT_SSE, DELTA("\"content\":\"[DONE]\"", "null"), "c" },
	{ O, DIALECT_SSE, ": OPENROUTER PROCESSING\n\n", "p" },
	{ O, DIALECT_SSE, DATA("{\"error\":null,\"choices\":[]}"), "p" },
	{ O, DIALECT_SSE,
	    DATA("{\"error\":{\"message\":\"m\",\"type\":\"server_error\","
		 "\"param\":null,\"code\":\"overloaded\"}}"),
	    "503" },
	{ O, DIALECT_SSE, DATA("{\"error\":{\"code\":429}}"), "429" },
	{ O, DIALECT_SSE, DATA("{\"error\":\"rate limit, wait\"}"), "429" },
	{ O, DIALECT_SSE, DATA("{\"error\":{}}"), "502" },
	{ O, DIALECT_SSE,
	    DATA("{\"object\":\"error\",\"message\":\"too long\","
		 "\"type\":\"BadRequestError\",\"code\":400}"),
	    "400" },
	{ O, DIALECT_SSE, NAMED("error", "{\"message\":\"m\"}"), "502" },
	{ O, DIALECT_SSE, DATA("[DONE]") DATA("{\"error\":\"x\"}"), "t 502" },
	{ O, DIALECT_SSE, DELTA("\"content\":\"{\\\"error\\\":1}\"", "null"),
	    "c" },

	/* With content under way, as before it */
	{ O, DIALECT_SSE,
	    DELTA("\"content\":\"Hi\"", "null")
		DELTA("\"content\":\"\\\"error\\\":1\"", "null")
		    DATA("{\"error\" : null , \"x\":\"finish_reason\"}")
			DATA("{\"x\":\"error\",\"error\":{\"code\":500}}"),
	    "c c c 500" },
	{ O, DIALECT_SSE,
	    DELTA("\"content\":\"Hi\"", "null") DELTA("", "\"stop\""),
	    "c c !" },
	{ O, DIALECT_SSE, DELTA("\"content\":\"Hi\"", "null") "\n: x\n\n",
	    "c p" },
	{ O, DIALECT_SSE,
	    DELTA("\"content\":\"Hi\"", "null")
		NAMED("error", "{\"message\":\"m\"}"),
	    "c 502" },
	{ O, DIALECT_SSE,
	    DELTA("\"content\":\"Hi\"", "null") "data: {\n"
						"data: \"error\":{}}\n\n",
	    "c 502" },
	{ G, DIALECT_SSE,
	    DATA(CANDIDATE(PARTS("x"))) DATA(CANDIDATE(PARTS("y")))
		DATA(CANDIDATE(PARTS("z") ",\"finishReason\": \"STOP\"")),
	    "c c t !" },
	{ G, DIALECT_SSE,
	    "data: " CANDIDATE(PARTS("x")) "\r\n\r\ndata: " CANDIDATE(
		PARTS("y")) "\r\n\r\ndata: {\"error\": {\"code\": 503}}"
			    "\r\n\r\n",
	    "c c 503" },

	/* Responses */
	{ R, DIALECT_SSE,
	    NAMED("response.created",
		"{\"type\":\"response.created\",\"sequence_number\":0,"
		"\"response\":{\"error\":null}}") NAMED("response.in_progress",
		"{}") NAMED("response.output_text.delta", "{\"delta\":\"x\"}")
		NAMED("response.completed", "{}"),
	    "p p c t !" },
	{ R, DIALECT_SSE,
	    DATA("{\"type\":\"response.created\"}")
		DATA("{\"type\":\"response.output_item.added\"}")
		    DATA("{\"type\":\"response.completed\"}"),
	    "p c t !" },
	{ R, DIALECT_SSE, NAMED("response.incomplete", "{}"), "t !" },
	{ R, DIALECT_SSE, NAMED("codex.rate_limits", "{}"), "p" },
	{ R, DIALECT_SSE,
	    NAMED("response.failed",
		"{\"type\":\"response.failed\",\"sequence_number\":3,"
		"\"response\":{\"id\":\"r\",\"status\":\"failed\",\"error\":{"
		"\"code\":\"server_is_overloaded\",\"message\":\"m\"}}}"),
	    "503" },
	{ R, DIALECT_SSE,
	    NAMED("response.failed",
		"{\"response\":{\"error\":{\"message\":\"m\",\"code\":"
		"\"rate_limit_exceeded\"}}}"),
	    "429" },
	{ R, DIALECT_SSE, NAMED("response.failed", "{}"), "502" },
	{ R, DIALECT_SSE,
	    NAMED("error",
		"{\"type\":\"error\",\"code\":\"context_length_exceeded\"}"),
	    "400" },
	{ R, DIALECT_SSE,
	    DATA("{\"type\":\"error\",\"error\":{\"type\":"
		 "\"usage_limit_reached\"}}"),
	    "429" },
	{ R, DIALECT_SSE, DATA("{\"error\":{\"code\":\"server_error\"}}"),
	    "503" },
	{ R, DIALECT_SSE,
	    NAMED("response.completed", "{}") NAMED("response.failed", "{}"),
	    "t 502" },
	{ R, DIALECT_SSE, DATA("[DONE]"), "p" },

	/* Claude */
	{ C, DIALECT_SSE,
	    NAMED("message_start", "{\"type\":\"message_start\"}")
		NAMED("content_block_start",
		    "{\"type\":\"content_block_start\",\"index\":0,"
		    "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}")
		    NAMED("ping", "{\"type\": \"ping\"}")
			NAMED("content_block_delta", "{\"delta\":{}}")
			    NAMED("content_block_stop", "{}")
				NAMED("message_delta", "{}")
				    NAMED("message_stop", "{}"),
	    "p p p c p c t !" },
	{ C, DIALECT_SSE,
	    NAMED("content_block_start",
		"{\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\","
		"\"input\":{}}}"),
	    "c" },
	{ C, DIALECT_SSE,
	    NAMED("content_block_start",
		"{\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\","
		"\"signature\":\"\"}}"),
	    "p" },
	{ C, DIALECT_SSE,
	    NAMED("error",
		"{\"type\":\"error\",\"error\":{\"details\":null,\"type\":"
		"\"overloaded_error\",\"message\":\"Overloaded\"}}"),
	    "529" },
	{ C, DIALECT_SSE,
	    "data: {\"error\":{\"type\":\"rate_limit_error\"}}\n"
	    "event: error\n\n",
	    "429" },
	{ C, DIALECT_SSE,
	    DATA("{\"type\":\"message_start\",\"message\":{}}")
		DATA("{\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}"),
	    "p 500" },
	{ C, DIALECT_SSE, NAMED("error", "garbage"), "502" },
	{ C, DIALECT_SSE, NAMED("something_new", "{\"a\":1}"), "c" },
	{ C, DIALECT_SSE, NAMED("message_delta", "{}"), "c" },
	{ C, DIALECT_SSE, ": comment\n\n", "p" },
	{ C, DIALECT_SSE, NAMED("message_start", "{\"error\":{}}"), "p" },

	/* Gemini */
	{ G, DIALECT_SSE,
	    "data: {}\r\n\r\n\r\ndata: " CANDIDATE(PARTS(
		"x")) "\r\n\r\ndata: " CANDIDATE(PARTS("y") ",\"finishReason\":"
							    "\"STOP\"") "\r\n"
									"\r\n",
	    "p c t !" },
	{ G, DIALECT_SSE, DATA("{\"usageMetadata\":{}}"), "p" },
	{ G, DIALECT_SSE, DATA(CANDIDATE(PARTS(""))), "p" },
	{ G, DIALECT_SSE, DATA(CANDIDATE("\"finishReason\":null")), "p" },
	{ G, DIALECT_SSE,
	    DATA("{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}"), "t !" },
	{ G, DIALECT_SSE,
	    DATA("{\"error\":{\"code\":503,\"message\":\"m\",\"status\":"
		 "\"UNAVAILABLE\"}}"),
	    "503" },
	{ G, DIALECT_SSE,
	    DATA("{\"error\":{\"status\":\"RESOURCE_EXHAUSTED\"}}"), "429" },
	{ G, DIALECT_SSE, DATA("[{\"error\":{\"code\":500}}]"), "500" },

	/* Whole documents */
	{ O, DIALECT_JSON, "{\"choices\":[{\"message\":{}}]}\n", "t !" },
	{ O, DIALECT_JSON, "{\"object\":\"list\",\"data\":[]}", "t !" },
	{ O, DIALECT_JSON, "{\"error\":{\"code\":\"rate_limit_exceeded\"}}",
	    "429" },
	{ O, DIALECT_JSON, "{\"object\":\"error\",\"code\":429}", "429" },
	{ O, DIALECT_JSON, "{\"choices\":[", "" },
	{ O, DIALECT_JSON, "not json", "" },
	{ R, DIALECT_JSON, "{\"object\":\"response\",\"error\":null}", "t !" },
	{ R, DIALECT_JSON,
	    "{\"object\":\"response\",\"status\":\"failed\",\"error\":{"
	    "\"code\":\"server_error\"}}",
	    "503" },
	{ C, DIALECT_JSON, "{\"type\":\"message\",\"content\":[]}", "t !" },
	{ C, DIALECT_JSON,
	    "{\"type\":\"error\",\"error\":{\"type\":"
	    "\"overloaded_error\"}}",
	    "529" },
	{ C, DIALECT_JSON, "{\"input_tokens\":7}", "t !" },
	{ G, DIALECT_JSON, "{\"totalTokens\":7}", "t !" },
	{ G, DIALECT_JSON,
	    "[" CANDIDATE(PARTS("x")) ",\r\n" CANDIDATE(
		"\"finishReason\":\"STOP\"") "]",
	    "c t !" },
	{ G, DIALECT_JSON, "[" CANDIDATE(PARTS("x")) "]", "c" },
	{ G, DIALECT_JSON,
	    "[" CANDIDATE(PARTS("x")) ",{\"error\":{\"code\":503}}]", "c 503" },
};

struct verdicts {
	char text[256];
	size_t len;
};

static void
add_verdict(struct verdicts *v, const struct dialect_frame *f)
{
	static const char letters[] = "pct";

	if (f->class == DIALECT_ERROR)
		v->len += (size_t)sprintf(v->text + v->len, "%d ", f->status);
	else
		v->len +=
		    (size_t)sprintf(v->text + v->len, "%c ", letters[f->class]);
	assert_true(f->complete);
	assert_non_null(f->code);
	assert_non_null(f->type);
	assert_non_null(f->message);
}

static void
read_bytes(
    struct dialect_stream *st, const char *in, size_t len, struct verdicts *v)
{
	char *copy = malloc(len > 0 ? len : 1);
	struct dialect_frame f;
	size_t at = 0;
	size_t used;

	assert_non_null(copy);
	memcpy(copy, in, len);
	while (dialect_stream_next(st, copy + at, len - at, &used, &f) ==
	       DIALECT_FRAME) {
		at += used;
		add_verdict(v, &f);
	}
	assert_int_equal(at + used, len);
	free(copy);
}

static void
assert_verdicts(size_t row, const struct dialect_stream *st, struct verdicts *v)
{
	if (dialect_stream_complete(st))
		strcat(v->text, "!");
	else if (v->len > 0)
		v->text[v->len - 1] = '\0';
	if (strcmp(v->text, rows[row].want) != 0)
		print_error("%s\n", rows[row].in);
	assert_string_equal(v->text, rows[row].want);
}

static void
frames_are_classified_in_any_pieces(void **state)
{
	struct dialect_stream st;
	struct verdicts v;
	size_t len;
	size_t cut;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		len = strlen(rows[i].in);
		for (cut = 0; cut <= len; cut++) {
			v = (struct verdicts){ 0 };
			dialect_stream_init(
			    &st, rows[i].dialect, rows[i].framing);
			read_bytes(&st, rows[i].in, cut, &v);
			read_bytes(&st, rows[i].in + cut, len - cut, &v);
			assert_verdicts(i, &st, &v);
		}
		v = (struct verdicts){ 0 };
		dialect_stream_init(&st, rows[i].dialect, rows[i].framing);
		for (cut = 0; cut < len; cut++)
			read_bytes(&st, rows[i].in + cut, 1, &v);
		assert_verdicts(i, &st, &v);
	}
}

/* The first frame of a stream, which must be whole. */
static struct dialect_frame
first_frame(struct dialect_stream *st, enum dialect d, const char *in)
{
	struct dialect_frame f;
	size_t used;

	dialect_stream_init(st, d, DIALECT_SSE);
	assert_int_equal(
	    dialect_stream_next(st, in, strlen(in), &used, &f), DIALECT_FRAME);
	return f;
}

static void
errors_are_described(void **state)
{
	struct dialect_stream st;
	struct dialect_frame f;

	(void)state;
	f = first_frame(&st, R,
	    NAMED("response.failed",
		"{\"response\":{\"error\":{\"type\":\"usage_limit_reached\","
		"\"code\":\"x\",\"message\":\"Wait \\u00e9\\u20ac\\n"
		"\\\"now\\\"\\/\\ud83d\\ude00\\u0000!\","
		"\"resets_in_seconds\":37.2,\"resets_at\":1790000000}}}"));
	assert_int_equal(f.class, DIALECT_ERROR);
	assert_int_equal(f.status, 429);
	assert_string_equal(f.code, "x");
	assert_string_equal(f.type, "usage_limit_reached");
	assert_string_equal(
	    f.message, "Wait \xc3\xa9\xe2\x82\xac \"now\"/??\?!");
	assert_int_equal(f.delay_ms, 37200);
	assert_int_equal(f.resets_at_s, 1790000000);

	f = first_frame(&st, G,
	    DATA("{\"error\":{\"code\":429,\"message\":\"m\",\"details\":["
		 "{\"@type\":\"t\"},{\"retryDelay\":\"12s\"}]}}"));
	assert_int_equal(f.status, 429);
	assert_int_equal(f.delay_ms, 12000);
	assert_int_equal(f.resets_at_s, -1);

	f = first_frame(&st, C, NAMED("error", "{}"));
	assert_string_equal(f.message, "");
	assert_int_equal(f.delay_ms, -1);
}

static void
nothing_is_left_of_the_frame_before(void **state)
{
	static const char in[] = DATA(
	    "{\"error\":{\"message\":\"first\",\"code\":\"server_error\"}}")
	    DATA("{\"error\":{\"type\":\"rate_limit_error\"}}");
	struct dialect_stream st;
	struct dialect_frame f;
	size_t used;
	size_t at;

	(void)state;
	dialect_stream_init(&st, O, DIALECT_SSE);
	assert_int_equal(
	    dialect_stream_next(&st, in, sizeof(in) - 1, &used, &f),
	    DIALECT_FRAME);
	assert_string_equal(f.message, "first");
	at = used;
	assert_int_equal(
	    dialect_stream_next(&st, in + at, sizeof(in) - 1 - at, &used, &f),
	    DIALECT_FRAME);
	assert_int_equal(f.status, 429);
	assert_string_equal(f.message, "");
	assert_string_equal(f.code, "");
}

static void
long_strings_of_errors_are_cut_between_characters(void **state)
{
	char in[1024] = "data: {\"error\":{\"message\":\"";
	size_t at = strlen(in);
	struct dialect_stream st;
	struct dialect_frame f;
	size_t i;

	(void)state;
	in[at++] = 'x';
	for (i = 0; i < 200; i++) {
		memcpy(in + at, "\xc3\xa9", 2);
		at += 2;
	}
	strcpy(in + at, "\"}}\n\n");
	f = first_frame(&st, O, in);
	assert_int_equal(strlen(f.message), 255);

	at = strlen("data: {\"error\":{\"message\":\"");
	memset(in + at, 'x', 254);
	strcpy(in + at + 254, "\\u00e9 and more\"}}\n\n");
	f = first_frame(&st, O, in);
	assert_int_equal(strlen(f.message), 254);
}

static void
sequence_numbers_are_followed(void **state)
{
	static const char in[] =
	    NAMED("response.created", "{\"sequence_number\":0,\"response\":{}}")
		NAMED("response.output_text.delta",
		    "{\"delta\":\"x\",\"sequence_number\":41}")
		    NAMED("response.output_text.delta",
			"{\"item\":{\"sequence_number\":99}}");
	struct dialect_stream st;
	struct verdicts v = { 0 };

	(void)state;
	dialect_stream_init(&st, R, DIALECT_SSE);
	assert_int_equal(st.sequence, 0);
	read_bytes(&st, in, sizeof(in) - 1, &v);
	assert_int_equal(st.sequence, 42);
}

/* A frame whose data begins and ends as given, with `size` bytes between. */
static char *
large_frame(const char *head, size_t size, const char *tail)
{
	char *in = malloc(strlen(head) + size + strlen(tail) + 1);

	assert_non_null(in);
	strcpy(in, head);
	memset(in + strlen(head), 'x', size);
	strcpy(in + strlen(head) + size, tail);
	return in;
}

static void
long_content_is_told_before_its_end(void **state)
{
	struct dialect_stream st;
	struct dialect_frame f;
	size_t used;
	size_t at = 0;
	size_t len;
	char *in;

	(void)state;
	in = large_frame("data: {\"candidates\":[{\"content\":{\"parts\":[{"
			 "\"inlineData\":{\"data\":\"",
	    1 << 20, "\"}}]},\"finishReason\":\"STOP\"}]}\n\n");
	len = strlen(in);
	dialect_stream_init(&st, G, DIALECT_SSE);
	assert_int_equal(
	    dialect_stream_next(&st, in, 9000, &used, &f), DIALECT_FRAME);
	assert_int_equal(f.class, DIALECT_CONTENT);
	assert_false(f.complete);
	assert_false(dialect_stream_at_boundary(&st));
	at = used;
	assert_int_equal(
	    dialect_stream_next(&st, in + at, 100000 - at, &used, &f),
	    DIALECT_MORE);
	at += used;
	assert_int_equal(dialect_stream_next(&st, in + at, len - at, &used, &f),
	    DIALECT_FRAME);
	assert_int_equal(f.class, DIALECT_TERMINAL);
	assert_true(f.complete);
	assert_true(dialect_stream_complete(&st));
	assert_true(dialect_stream_at_boundary(&st));
	free(in);
}

static void
long_preface_and_errors_are_told_at_their_end(void **state)
{
	static const struct {
		enum dialect dialect;
		const char *head;
		const char *tail;
		enum dialect_class want;
	} frames[] = {
		{ R,
		    "event: response.created\ndata: {\"response\":{"
		    "\"instructions\":\"",
		    "\"}}\n\n", DIALECT_PREFACE },
		{ R,
		    "data: {\"type\":\"response.created\",\"response\":{"
		    "\"instructions\":\"",
		    "\"}}\n\n", DIALECT_PREFACE },
		{ C, "event: message_start\ndata: {\"a\":\"", "\"}\n\n",
		    DIALECT_PREFACE },
		{ O, "data: {\"error\":{\"message\":\"", "\"}}\n\n",
		    DIALECT_ERROR },
		{ C, "event: error\ndata: {\"error\":{\"message\":\"",
		    "\"}}\n\n", DIALECT_ERROR },
	};
	struct dialect_stream st;
	struct dialect_frame f;
	size_t i;
	char *in;

	(void)state;
	for (i = 0; i < ARRAY_LEN(frames); i++) {
		in = large_frame(frames[i].head, 30000, frames[i].tail);
		f = first_frame(&st, frames[i].dialect, in);
		assert_true(f.complete);
		assert_int_equal(f.class, frames[i].want);
		free(in);
	}
}

static void
boundaries_are_those_of_frames(void **state)
{
	struct dialect_stream st;
	struct verdicts v = { 0 };

	(void)state;
	dialect_stream_init(&st, O, DIALECT_SSE);
	assert_true(dialect_stream_at_boundary(&st));
	read_bytes(&st, "data: {}\n", 9, &v);
	assert_false(dialect_stream_at_boundary(&st));
	read_bytes(&st, "\n", 1, &v);
	assert_true(dialect_stream_at_boundary(&st));
	dialect_stream_init(&st, G, DIALECT_JSON);
	assert_false(dialect_stream_at_boundary(&st));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_classified_in_any_pieces),
		cmocka_unit_test(errors_are_described),
		cmocka_unit_test(nothing_is_left_of_the_frame_before),
		cmocka_unit_test(
		    long_strings_of_errors_are_cut_between_characters),
		cmocka_unit_test(sequence_numbers_are_followed),
		cmocka_unit_test(long_content_is_told_before_its_end),
		cmocka_unit_test(long_preface_and_errors_are_told_at_their_end),
		cmocka_unit_test(boundaries_are_those_of_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
