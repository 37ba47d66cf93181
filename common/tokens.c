/* SPDX-License-Identifier: MIT */
#include "common/tokens.h"

const char *const token_kind_names[TOKENS_MAX] = {
	[TOKENS_INPUT] = "input",
	[TOKENS_OUTPUT] = "output",
	[TOKENS_CACHED] = "cached",
	[TOKENS_CACHE_WRITE] = "cache_write",
	[TOKENS_REASONING] = "reasoning",
	[TOKENS_TOTAL] = "total",
};
