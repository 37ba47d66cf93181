/* SPDX-License-Identifier: MIT */
#include "master/credential/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/attr.h"

static void
numbers_are_taken_once_and_end(void **state UNUSED)
{
	bool seen[10] = { false };
	struct pool pool;
	uint32_t number;
	int i;

	pool_init(&pool, 10, 4);
	assert_true(pool_mark(&pool, 3));
	assert_false(pool_mark(&pool, 3));
	assert_false(pool_mark(&pool, 10));
	for (i = 0; i < 9; i++) {
		number = pool_take(&pool);
		assert_true(number < 10 && number != 3);
		assert_false(seen[number]);
		seen[number] = true;
	}
	assert_int_equal(pool_take(&pool), BOARD_NONE);
	pool_give(&pool, BOARD_NONE);
	pool_give(&pool, 5);
	assert_int_equal(pool_take(&pool), 5);
	assert_int_equal(pool_take(&pool), BOARD_NONE);
	pool_fini(&pool);
}

static void
a_number_rests_before_it_is_used_again(void **state UNUSED)
{
	enum { IN_USE = 100, TAKES = 100 };
	struct pool pool;
	uint32_t last = 0;
	int i;

	pool_init(&pool, 1 << 20, 64);
	for (i = 0; i < IN_USE; i++)
		last = pool_take(&pool);
	pool_give(&pool, last);
	for (i = 0; i < TAKES; i++) {
		uint32_t number = pool_take(&pool);

		assert_int_not_equal(number, last);
		pool_give(&pool, number);
	}
	pool_fini(&pool);
}

static void
numbers_stay_low_however_often_they_are_taken(void **state UNUSED)
{
	struct pool pool;
	int i;

	pool_init(&pool, 1 << 20, 64);
	for (i = 0; i < 100000; i++) {
		uint32_t number = pool_take(&pool);

		assert_true(number < 64);
		pool_give(&pool, number);
	}
	assert_int_equal(pool.used, 0);
	pool_fini(&pool);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_taken_once_and_end),
		cmocka_unit_test(a_number_rests_before_it_is_used_again),
		cmocka_unit_test(numbers_stay_low_however_often_they_are_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
