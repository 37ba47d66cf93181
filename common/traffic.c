/* SPDX-License-Identifier: MIT */
#include "common/traffic.h"

#include <stddef.h>

#include "common/attr.h"

static const int64_t bounds_us[TRAFFIC_BUCKETS - 1] = { 100, 250,
	500,                                      /* below a millisecond */
	1000, 2500, 5000, 10000, 25000, 50000,    /* a connection's time */
	100000, 250000, 500000, 1000000, 2500000, /* a model's first word */
	5000000, 10000000, 30000000, 60000000,    /* and its last */
	120000000, 300000000 };

static const uint16_t statuses[] = { 200, 201, 204, 400, 401, 402, 403, 404,
	405, 408, 409, 413, 415, 422, 426, 429, 431, 499, 500, 501, 502, 503,
	504, 505, 529 };

_Static_assert(ARRAY_LEN(statuses) < TRAFFIC_STATUSES, "one more for others");

static uint64_t
known(const struct tokens *tokens, enum token_kind kind)
{
	return tokens->n[kind] > 0 ? (uint64_t)tokens->n[kind] : 0;
}

void
traffic_add_tokens(
    struct traffic *t, enum provider_id provider, const struct tokens *tokens)
{
	uint64_t prompt = known(tokens, TOKENS_INPUT);

	for (int i = 0; i < TOKENS_MAX; i++)
		traffic_add(
		    &t->tokens[provider][i], known(tokens, (enum token_kind)i));
	/* Elsewhere what came from a cache is a part of the input. */
	if (provider == PROVIDER_CLAUDE)
		prompt += known(tokens, TOKENS_CACHED) +
			  known(tokens, TOKENS_CACHE_WRITE);
	traffic_add(&t->tokens_prompt, prompt);
}

void
traffic_observe(struct traffic_histogram *h, int64_t us)
{
	unsigned int i = 0;

	if (us < 0)
		us = 0;
	while (i < ARRAY_LEN(bounds_us) && us > bounds_us[i])
		i++;
	traffic_add(&h->buckets[i], 1);
	traffic_add(&h->sum_us, (uint64_t)us);
}

int64_t
traffic_bound_us(unsigned int bucket)
{
	return bucket < ARRAY_LEN(bounds_us) ? bounds_us[bucket] : -1;
}

unsigned int
traffic_status_index(int status)
{
	for (unsigned int i = 0; i < ARRAY_LEN(statuses); i++) {
		if (statuses[i] == status)
			return i;
	}
	return ARRAY_LEN(statuses);
}

int
traffic_status(unsigned int index)
{
	return index < ARRAY_LEN(statuses) ? statuses[index] : 0;
}
