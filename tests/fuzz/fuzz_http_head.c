/* SPDX-License-Identifier: MIT */
/*
 * The request head parser: its outcome does not depend on how the bytes came
 * in pieces, all it tells lies within the head, and what it lets pass is
 * framed in one way only. Routes and queries are tried on what passes.
 */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "worker/client/route.h"
#include "worker/http/http_head.h"

static void
require_inside(const struct http_head *h, struct http_ref ref)
{
	require(ref.at <= h->size && ref.len <= h->size - ref.at);
}

static void
require_field(const struct http_head *h, int i)
{
	struct span name = http_head_name(h, i);
	struct span value = http_head_value(h, i);

	require_inside(h, h->fields[i].value);
	require(http_is_token(name.p, name.len));
	require(http_is_field_value(value.p, value.len));
	require(span_trim(value).len == value.len);
	require(value.p > name.p + name.len);
}

static size_t
count_of(const struct http_head *h, const char *name)
{
	size_t n = 0;
	int i;

	for (i = http_head_find(h, name, 0); i >= 0;
	     i = http_head_find(h, name, i + 1))
		n++;
	return n;
}

static void
require_sane(const struct http_head *h, size_t len)
{
	uint32_t i;

	require(h->size >= 4 && h->size <= len);
	require(memcmp(h->base + h->size - 4, "\r\n\r\n", 4) == 0);
	require(h->count <= HTTP_HEAD_FIELDS);
	for (i = 0; i < h->count; i++)
		require_field(h, (int)i);
	require_inside(h, h->verb);
	require_inside(h, h->target);
	require_inside(h, h->path);
	require_inside(h, h->query);
	require(!(h->chunked && h->content_length >= 0));
	require(h->chunked == (count_of(h, "transfer-encoding") == 1));
	require(
	    (h->content_length >= 0) == (count_of(h, "content-length") == 1));
	require(count_of(h, "host") == 1 || (h->minor == 0 && !h->has_host));
}

static void
require_same(const struct http_head *a, const struct http_head *b)
{
	require(a->size == b->size && a->method == b->method);
	require(a->content_length == b->content_length);
	require(a->chunked == b->chunked && a->minor == b->minor);
	require(a->keep_alive == b->keep_alive);
	require(a->expect_continue == b->expect_continue);
	require(a->websocket == b->websocket);
	require(memcmp(&a->path, &b->path, sizeof(a->path)) == 0);
	require(memcmp(&a->query, &b->query, sizeof(a->query)) == 0);
	require(a->count == b->count);
	require(
	    memcmp(a->fields, b->fields, a->count * sizeof(a->fields[0])) == 0);
}

/* Parses a prefix that lies alone in its memory. */
static enum http_head_result
parse_prefix(struct http_head *h, const uint8_t *data, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);
	enum http_head_result r;

	require(copy != NULL);
	memcpy(copy, data, len);
	r = http_head_parse(h, copy, len);
	h->base = (const char *)data;
	free(copy);
	return r;
}

static void
try_routes(const struct http_head *h)
{
	struct span query = http_head_span(h, h->query);
	char *stripped = malloc(query.len > 0 ? query.len : 1);
	struct route_match m;
	char value[32];
	size_t len;

	require(stripped != NULL);
	if (route_match(h, &m) == ROUTE_MATCH)
		require(m.row != NULL && m.model_len == strlen(m.model));
	len = route_query_strip(query, stripped);
	require(len <= query.len);
	require(route_query_get((struct span){ stripped, len }, "key", value,
		    sizeof(value), &len) == ROUTE_QUERY_ABSENT);
	free(stripped);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = { 1, 7, 64 };
	enum http_head_result want;
	enum http_head_result r;
	struct http_head whole;
	struct http_head h;
	size_t i;
	size_t n;

	http_head_init(&whole);
	want = parse_prefix(&whole, data, size);
	if (want == HTTP_HEAD_DONE) {
		require_sane(&whole, size);
		try_routes(&whole);
	}
	require((whole.error != NULL) == (want > HTTP_HEAD_MORE));

	for (i = 0; i < ARRAY_LEN(steps); i++) {
		http_head_init(&h);
		r = HTTP_HEAD_MORE;
		for (n = 0; n < size && r == HTTP_HEAD_MORE;) {
			n = size - n < steps[i] ? size : n + steps[i];
			r = parse_prefix(&h, data, n);
		}
		require(r == want);
		if (r == HTTP_HEAD_DONE)
			require_same(&h, &whole);
	}
	return 0;
}
