/* SPDX-License-Identifier: MIT */
#include "common/spares.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/attr.h"

static void
blocks_are_of_their_size_and_never_shared(void **state UNUSED)
{
	enum { SIZE = 3000, N = 2 * SPARES_MAX };
	struct spares s;
	char *block[N];

	spares_init(&s, SIZE);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N; i++) {
			block[i] = spares_get(&s);
			assert_non_null(block[i]);
			memset(block[i], i, SIZE);
		}
		for (int i = 0; i < N; i++) {
			assert_int_equal(block[i][0], i);
			assert_int_equal(block[i][SIZE - 1], i);
			spares_put(&s, block[i]);
		}
		assert_true(s.n <= SPARES_MAX);
	}
	spares_put(&s, NULL);
	spares_fini(&s);
	assert_int_equal(s.n, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_of_their_size_and_never_shared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
