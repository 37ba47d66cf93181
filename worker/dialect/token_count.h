/* SPDX-License-Identifier: MIT */
/*
 * What providers count, field by field as they say it, and what that makes in
 * the terms of usage records. The dialects differ in what contains what:
 * OpenAI's input contains what came from the cache, Claude's does not; Gemini's
 * output does not contain the thoughts.
 */
#ifndef FL_WORKER_DIALECT_TOKEN_COUNT_H
#define FL_WORKER_DIALECT_TOKEN_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/provider.h"
#include "common/tokens.h"

enum token_field {
	TOKEN_FIELD_INPUT,
	TOKEN_FIELD_TOOL_INPUT, /* beside the input */
	TOKEN_FIELD_OUTPUT,
	TOKEN_FIELD_CACHE_READ,
	TOKEN_FIELD_CACHE_WRITE,
	TOKEN_FIELD_REASONING,
	TOKEN_FIELD_TOTAL,
	TOKEN_FIELDS
};

/* Negative: not said, or no count. */
struct token_count {
	int64_t n[TOKEN_FIELDS];
};

void token_count_clear(struct token_count *c);

/*
 * More digits of a field; first: they begin it. What is no natural number, or
 * beyond 10^12, is no count.
 */
void token_count_read(struct token_count *c, enum token_field field,
    const char *p, size_t len, bool first);

/*
 * Another word on the same answer. Claude tells its fields in two events, of
 * which each may repeat some; elsewhere the last word has all of it. Gemini's
 * with nothing but zeros only holds the place of one to come.
 */
void token_count_merge(
    struct token_count *c, const struct token_count *more, enum dialect d);

/* False if nothing was said. */
bool token_count_sum(
    const struct token_count *c, enum dialect d, struct tokens *out);

#endif
