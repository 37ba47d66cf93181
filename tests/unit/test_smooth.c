/* SPDX-License-Identifier: MIT */
#include "common/smooth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"

static const struct {
	int32_t weights[4];
	size_t n;
	const char *turns;
} sequences[] = {
	{ { 5, 3, 2 }, 3, "abcaabacba" },
	{ { 5, 1 }, 2, "aaabaa" },
	{ { 0, 3, 2 }, 3, "bcbcb" },
	{ { 1, 1, 1 }, 3, "abc" },
	{ { 7, 7 }, 2, "ab" },
	{ { 1000000, 500000 }, 2, "aba" },
	{ { 3 }, 1, "a" },
	{ { 0, 0 }, 2, "" },
	{ { -1, 2, INT32_MIN, 2 }, 4, "bd" },
};

static void
turns_are_taken_smoothly(void **state UNUSED)
{
	uint16_t turns[SMOOTH_PERIOD_MAX];
	char text[32];
	size_t n;

	for (size_t i = 0; i < ARRAY_LEN(sequences); i++) {
		n = smooth_sequence(
		    sequences[i].weights, sequences[i].n, turns);
		assert_true(n < sizeof(text));
		for (size_t k = 0; k < n; k++)
			text[k] = (char)('a' + turns[k]);
		text[n] = '\0';
		assert_string_equal(text, sequences[i].turns);
	}
}

/* The definition, step by step, for any weights. */
static size_t
slow_sequence(const int32_t *weights, size_t n, uint16_t *turns)
{
	int64_t current[64] = { 0 }, total = 0;

	for (size_t i = 0; i < n; i++)
		total += weights[i];
	for (int64_t step = 0; step < total; step++) {
		size_t best = 0;

		for (size_t i = 0; i < n; i++)
			current[i] += weights[i];
		for (size_t i = 1; i < n; i++) {
			if (current[i] > current[best])
				best = i;
		}
		current[best] -= total;
		turns[step] = (uint16_t)best;
	}
	return (size_t)total;
}

static void
equals_the_step_by_step_definition(void **state UNUSED)
{
	uint16_t fast[SMOOTH_PERIOD_MAX], slow[SMOOTH_PERIOD_MAX];
	int32_t weights[40];
	uint32_t seed = 1;
	size_t n;

	for (int round = 0; round < 50; round++) {
		for (size_t i = 0; i < ARRAY_LEN(weights); i++) {
			seed = seed * 1103515245 + 12345;
			weights[i] = (int32_t)(seed >> 16) % 12 + 1;
		}
		weights[0] = 13; /* prime to the rest: nothing to divide by */
		weights[1] = 1;
		n = slow_sequence(weights, ARRAY_LEN(weights), slow);
		assert_int_equal(
		    smooth_sequence(weights, ARRAY_LEN(weights), fast), n);
		assert_memory_equal(fast, slow, n * sizeof(fast[0]));
	}
}

static void
a_long_period_is_scaled_and_leaves_out_nobody(void **state UNUSED)
{
	static int32_t weights[10000];
	static uint16_t turns[10000];
	static const size_t counts[] = { 2, 100, 4096, 10000 };
	static unsigned int seen[10000];
	size_t n;

	for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
		for (size_t i = 0; i < counts[c]; i++)
			weights[i] = (int32_t)(1 + i * 7919 % 100003);
		n = smooth_sequence(weights, counts[c], turns);
		assert_true(n > 0 && n <= smooth_room(counts[c]));
		memset(seen, 0, sizeof(seen));
		for (size_t i = 0; i < n; i++)
			seen[turns[i]]++;
		for (size_t i = 0; i < counts[c]; i++)
			assert_true(seen[i] >= 1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(turns_are_taken_smoothly),
		cmocka_unit_test(equals_the_step_by_step_definition),
		cmocka_unit_test(a_long_period_is_scaled_and_leaves_out_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
