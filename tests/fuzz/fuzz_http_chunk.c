/* SPDX-License-Identifier: MIT */
/*
 * The chunked decoder: the body it makes does not depend on how the bytes
 * came in pieces, and never exceeds what it was allowed or given.
 */
#include <string.h>

#include "common/attr.h"
#include "tests/fuzz/fuzz.h"
#include "worker/http/http_chunk.h"

enum { LIMIT = 4096 };

struct outcome {
	enum http_chunk_result result;
	size_t used;
	size_t len;
	char body[LIMIT];
};

static void
decode(const uint8_t *data, size_t size, size_t step, struct outcome *o)
{
	struct http_chunk c;
	size_t used;
	size_t made;
	size_t n;

	o->result = HTTP_CHUNK_MORE;
	o->used = 0;
	o->len = 0;
	http_chunk_init(&c, LIMIT);
	while (o->used < size && o->result == HTTP_CHUNK_MORE) {
		n = size - o->used < step ? size - o->used : step;
		AUTO_FREE char *copy = malloc(n);

		require(copy != NULL);
		memcpy(copy, data + o->used, n);
		o->result = http_chunk_decode(&c, copy, n, &used, &made);
		require(used <= n && made <= used);
		require(o->result != HTTP_CHUNK_MORE || used == n);
		require(made <= LIMIT - o->len);
		memcpy(o->body + o->len, copy, made);
		o->used += used;
		o->len += made;
		require(o->len <= c.total && c.total <= LIMIT);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = { 1, 5, 100 };
	static struct outcome whole;
	static struct outcome o;
	size_t i;

	decode(data, size, size, &whole);
	for (i = 0; i < ARRAY_LEN(steps); i++) {
		decode(data, size, steps[i], &o);
		require(o.result == whole.result && o.used == whole.used);
		require(o.len == whole.len);
		require(memcmp(o.body, whole.body, o.len) == 0);
	}
	return 0;
}
