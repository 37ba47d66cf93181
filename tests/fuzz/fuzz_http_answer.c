/* SPDX-License-Identifier: MIT */
/*
 * Answers of an upstream, heads and bodies: the outcome does not depend on how
 * the bytes came in pieces, and a head that passes holds nothing but fields,
 * one to a line.
 */
#include <string.h>

#include "common/str.h"
#include "tests/fuzz/fuzz.h"
#include "worker/http/http_answer.h"
#include "worker/http/http_head.h"

enum { HEADS_MAX = 8 };

/* What is left of a message when it was read. */
struct outcome {
	enum http_answer_result result;
	int status;
	size_t at;     /* how much of the input was its */
	size_t made;   /* of content */
	uint32_t hash; /* of the content */
};

static void
require_field(struct span line)
{
	const char *colon = memchr(line.p, ':', line.len);
	struct span name;

	require(colon != NULL);
	name = span_trim((struct span){ line.p, (size_t)(colon - line.p) });
	require(http_is_token(name.p, name.len));
	require(http_is_field_value(
	    colon + 1, line.len - (size_t)(colon - line.p) - 1));
}

static void
require_fields(const char *p, size_t len)
{
	while (len > 0) {
		const char *lf = memchr(p, '\n', len);
		struct span line = { p, (size_t)(lf - p) };

		require(lf != NULL);
		len -= line.len + 1;
		p += line.len + 1;
		if (line.len > 0 && line.p[line.len - 1] == '\r')
			line.len--;
		if (line.len > 0)
			require_field(line);
		require((line.len == 0) == (len == 0));
	}
}

static void
add_content(struct outcome *o, const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		o->hash = (o->hash ^ (unsigned char)p[i]) * 16777619U;
	o->made += len;
}

/* Finds the end of a head, in growing prefixes that lie alone in memory. */
static enum http_answer_result
find(struct http_answer *a, const uint8_t *data, size_t len, size_t step,
    size_t *size)
{
	enum http_answer_result r = HTTP_ANSWER_MORE;
	size_t scanned = 0;

	for (size_t n = 0; n < len && r == HTTP_ANSWER_MORE;) {
		char *copy;

		n = len - n < step ? len : n + step;
		copy = malloc(n);
		require(copy != NULL);
		memcpy(copy, data, n);
		r = http_answer_find(a, copy, n, &scanned, size);
		free(copy);
		require(scanned <= n);
		require(r != HTTP_ANSWER_DONE || (*size <= n && *size >= 2));
	}
	return r;
}

static void
read_body(struct http_answer *a, struct outcome *o, const uint8_t *data,
    size_t len, size_t step)
{
	o->result = HTTP_ANSWER_MORE;
	if (a->framing == HTTP_ANSWER_EMPTY)
		o->result = HTTP_ANSWER_DONE;
	while (o->result == HTTP_ANSWER_MORE && o->at < len) {
		size_t n = len - o->at < step ? len - o->at : step;
		char *copy = malloc(n);
		size_t used, made;

		require(copy != NULL);
		memcpy(copy, data + o->at, n);
		o->result = http_answer_body(a, copy, n, &used, &made);
		require(made <= used && used <= n);
		require(o->result != HTTP_ANSWER_MORE || used == n);
		add_content(o, copy, made);
		free(copy);
		o->at += used;
	}
}

static struct outcome
read_answer(const uint8_t *data, size_t len, size_t step)
{
	struct outcome o = { .result = HTTP_ANSWER_MORE };
	struct http_answer a = { 0 };
	size_t size = 0;

	for (int i = 0; i < HEADS_MAX && o.status < 200; i++) {
		char *head;

		o.result = find(&a, data + o.at, len - o.at, step, &size);
		if (o.result != HTTP_ANSWER_DONE)
			return o;
		head = malloc(size);
		require(head != NULL);
		memcpy(head, data + o.at, size);
		o.result = http_answer_read(&a, head, size, false);
		if (o.result == HTTP_ANSWER_DONE)
			require_fields(head + a.fields, size - a.fields);
		free(head);
		if (o.result != HTTP_ANSWER_DONE)
			return o;
		o.at += size;
		o.status = a.status;
	}
	if (o.status >= 200)
		read_body(&a, &o, data, len, step);
	return o;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = { 1, 7, 64 };
	struct outcome whole = read_answer(data, size, size > 0 ? size : 1);

	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		struct outcome o = read_answer(data, size, steps[i]);

		require(o.result == whole.result && o.status == whole.status);
		require(o.at == whole.at && o.made == whole.made);
		require(o.hash == whole.hash);
	}
	return 0;
}
