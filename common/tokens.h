/* SPDX-License-Identifier: MIT */
/* Tokens as usage records and totals count them. */
#ifndef FL_COMMON_TOKENS_H
#define FL_COMMON_TOKENS_H

#include <stdint.h>

enum token_kind {
	TOKENS_INPUT,
	TOKENS_OUTPUT,
	TOKENS_CACHED,
	TOKENS_CACHE_WRITE,
	TOKENS_REASONING,
	TOKENS_TOTAL,
	TOKENS_MAX
};

/* -1: not said. */
struct tokens {
	int64_t n[TOKENS_MAX];
};

/* "input", "output", "cached", "cache_write", "reasoning", "total". */
extern const char *const token_kind_names[TOKENS_MAX];

#endif
