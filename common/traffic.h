/* SPDX-License-Identifier: MIT */
/*
 * Counters by label and histograms: what metrics are made of. They live in a
 * process's part of the board, are only ever added to, and are read by whoever
 * sums them; each is one relaxed addition to memory that is the process's own.
 */
#ifndef FL_COMMON_TRAFFIC_H
#define FL_COMMON_TRAFFIC_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/provider.h"
#include "common/tokens.h"

/* A value is counted in the first bucket whose bound is not below it. */
enum { TRAFFIC_BUCKETS = 21 };

struct traffic_histogram {
	_Atomic uint64_t buckets[TRAFFIC_BUCKETS]; /* the last has no bound */
	_Atomic uint64_t sum_us;
};

/* Statuses with a counter of their own, and one for all others. */
enum { TRAFFIC_STATUSES = 28 };

/* enum attempt_end, with room to spare. */
enum { TRAFFIC_ENDS = 8 };

struct traffic {
	/* What clients were told; PROVIDER_MAX: nobody was asked. */
	_Atomic uint64_t
	    requests[DIALECT_MAX][PROVIDER_MAX + 1][TRAFFIC_STATUSES];
	_Atomic uint64_t attempts[PROVIDER_MAX][TRAFFIC_ENDS];
	_Atomic uint64_t cooldowns[16]; /* by enum cool_reason */
	_Atomic uint64_t tokens[PROVIDER_MAX][TOKENS_MAX];
	_Atomic uint64_t tokens_prompt; /* all that was read, cached or not */
	struct traffic_histogram duration;   /* of a request, to its end */
	struct traffic_histogram first_byte; /* until the client got it */
	struct traffic_histogram added;      /* until the attempt that served */
};

static inline void
traffic_add(_Atomic uint64_t *counter, uint64_t n)
{
	(void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* Of one answer; what it does not say counts nothing. */
void traffic_add_tokens(
    struct traffic *t, enum provider_id provider, const struct tokens *tokens);

void traffic_observe(struct traffic_histogram *h, int64_t us);

/* The upper bound of a bucket in microseconds; -1: none. */
int64_t traffic_bound_us(unsigned int bucket);

unsigned int traffic_status_index(int status);

/* The status of an index; 0 for that of all others. */
int traffic_status(unsigned int index);

#endif
