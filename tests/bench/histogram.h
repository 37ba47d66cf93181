/* SPDX-License-Identifier: MIT */
/*
 * A histogram of durations: buckets grow with the value, so a percentile is
 * right to within 1.6 % from nanoseconds to minutes, in fixed memory.
 */
#ifndef FL_TESTS_BENCH_HISTOGRAM_H
#define FL_TESTS_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS 1920

struct histogram {
	uint64_t total;
	uint64_t max_ns;
	uint64_t count[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);

/*
 * The duration, in ns, that the given fraction (0 to 1) of the values did not
 * exceed; 0 when there are none.
 */
uint64_t histogram_quantile_ns(const struct histogram *h, double fraction);

#endif
