/* SPDX-License-Identifier: MIT */
/*
 * What every fuzz target has: the entry that libFuzzer calls, and a check
 * that stays in builds without assertions.
 */
#ifndef FL_TESTS_FUZZ_FUZZ_H
#define FL_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Its name and form are libFuzzer's. Always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void
require(int condition)
{
	if (!condition)
		abort();
}

#endif
