/* SPDX-License-Identifier: MIT */
#include "worker/dialect/token_count.h"

/* So that sums of any number of fields are far from an overflow. */
#define COUNT_MAX INT64_C(1000000000000)

enum { NOT_SAID = -1, NO_COUNT = -2 };

void
token_count_clear(struct token_count *c)
{
	for (int i = 0; i < TOKEN_FIELDS; i++)
		c->n[i] = NOT_SAID;
}

void
token_count_read(struct token_count *c, enum token_field field, const char *p,
    size_t len, bool first)
{
	int64_t n = first ? 0 : c->n[field];

	for (size_t i = 0; i < len && n >= 0; i++) {
		n = p[i] >= '0' && p[i] <= '9' ? n * 10 + (p[i] - '0')
					       : NO_COUNT;
		if (n > COUNT_MAX)
			n = NO_COUNT;
	}
	c->n[field] = n;
}

static bool
is_placeholder(const struct token_count *c)
{
	for (int i = 0; i < TOKEN_FIELDS; i++)
		if (c->n[i] > 0)
			return false;
	return true;
}

void
token_count_merge(
    struct token_count *c, const struct token_count *more, enum dialect d)
{
	if (d == DIALECT_GEMINI && is_placeholder(more))
		return;
	if (d != DIALECT_CLAUDE) {
		*c = *more;
		return;
	}
	for (int i = 0; i < TOKEN_FIELDS; i++)
		if (more->n[i] >= 0)
			c->n[i] = more->n[i];
}

static int64_t
or_zero(int64_t n)
{
	return n < 0 ? 0 : n;
}

/* Adds up; what no term said stays not said. */
static int64_t
sum(int64_t a, int64_t b)
{
	return a < 0 && b < 0 ? NOT_SAID : or_zero(a) + or_zero(b);
}

/* The fields that lie beside input and output, not inside of them. */
static const struct {
	bool cache, reasoning;
} beside[DIALECT_MAX] = {
	[DIALECT_CLAUDE] = { .cache = true },
	[DIALECT_GEMINI] = { .reasoning = true },
};

bool
token_count_sum(const struct token_count *c, enum dialect d, struct tokens *out)
{
	int64_t read = c->n[TOKEN_FIELD_CACHE_READ];
	int64_t write = c->n[TOKEN_FIELD_CACHE_WRITE];
	int64_t input =
	    sum(c->n[TOKEN_FIELD_INPUT], c->n[TOKEN_FIELD_TOOL_INPUT]);
	int64_t total = sum(input, c->n[TOKEN_FIELD_OUTPUT]);
	bool said = false;

	if (beside[d].cache)
		total = sum(total, sum(read, write));
	if (beside[d].reasoning)
		total = sum(total, c->n[TOKEN_FIELD_REASONING]);
	if (c->n[TOKEN_FIELD_TOTAL] >= 0)
		total = c->n[TOKEN_FIELD_TOTAL];
	/* A cache that is being filled counts as one, where nothing was read.
	 */
	if (beside[d].cache && read <= 0 && write > 0)
		read = write;
	*out = (struct tokens){ {
	    [TOKENS_INPUT] = input,
	    [TOKENS_OUTPUT] = c->n[TOKEN_FIELD_OUTPUT],
	    [TOKENS_CACHED] = read,
	    [TOKENS_CACHE_WRITE] = write,
	    [TOKENS_REASONING] = c->n[TOKEN_FIELD_REASONING],
	    [TOKENS_TOTAL] = total,
	} };
	for (int i = 0; i < TOKENS_MAX; i++) {
		said |= out->n[i] >= 0;
		if (out->n[i] < 0)
			out->n[i] = NOT_SAID;
	}
	return said;
}
