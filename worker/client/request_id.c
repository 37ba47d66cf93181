/* SPDX-License-Identifier: MIT */
#include "worker/client/request_id.h"

#include <stdint.h>

#include "common/secret.h"

enum { RANDOM_DIGITS = 11 }; /* 55 bits; 45 are left to count with */

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";

static void
put(char *out, int n, uint64_t value)
{
	while (n-- > 0) {
		out[n] = digits[value & 31];
		value >>= 5;
	}
}

void
request_id_make(char id[REQUEST_ID_LEN + 1])
{
	static char prefix[RANDOM_DIGITS];
	static uint64_t count;
	uint64_t random;
	int i;

	if (count == 0) {
		random_bytes(&random, sizeof(random));
		put(prefix, RANDOM_DIGITS, random);
	}
	for (i = 0; i < RANDOM_DIGITS; i++)
		id[i] = prefix[i];
	put(id + RANDOM_DIGITS, REQUEST_ID_LEN - RANDOM_DIGITS, ++count);
	id[REQUEST_ID_LEN] = '\0';
}
