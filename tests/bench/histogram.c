/* SPDX-License-Identifier: MIT */
/* Log-linear buckets: 32 equal steps in every power of two. */
#include "tests/bench/histogram.h"

#include <assert.h>

#define STEP_BITS 5
#define STEPS     (1u << STEP_BITS)

static unsigned
bucket_of(uint64_t ns)
{
	unsigned shift;

	if (ns < 2 * STEPS)
		return (unsigned)ns;
	shift = 63 - (unsigned)__builtin_clzll(ns) - STEP_BITS;
	return shift * STEPS + (unsigned)(ns >> shift);
}

static uint64_t
bucket_middle(unsigned bucket)
{
	unsigned shift;

	if (bucket < 2 * STEPS)
		return bucket;
	shift = bucket / STEPS - 1;
	return ((uint64_t)(bucket - shift * STEPS) << shift) +
	       (UINT64_C(1) << shift) / 2;
}

void
histogram_add(struct histogram *h, uint64_t ns)
{
	unsigned bucket = bucket_of(ns);

	assert(bucket < HISTOGRAM_BUCKETS);
	h->count[bucket]++;
	h->total++;
	if (ns > h->max_ns)
		h->max_ns = ns;
}

uint64_t
histogram_quantile_ns(const struct histogram *h, double fraction)
{
	double wanted = fraction * (double)h->total;
	uint64_t seen = 0;
	unsigned i;

	for (i = 0; i < HISTOGRAM_BUCKETS && h->total > 0; i++) {
		seen += h->count[i];
		if (seen > 0 && (double)seen >= wanted)
			return bucket_middle(i);
	}
	return 0;
}
