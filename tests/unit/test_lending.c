/* SPDX-License-Identifier: MIT */
#include "master/lending.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/attr.h"

enum { NWORKERS_MAX = 4 };

static const struct {
	unsigned n;
	bool away[NWORKERS_MAX];
	int to[NWORKERS_MAX];
} cases[] = {
	{ 1, { false }, { -1 } },
	{ 1, { true }, { -1 } },
	{ 3, { false, false, false }, { -1, -1, -1 } },
	{ 3, { true, false, false }, { 1, -1, -1 } },
	{ 3, { false, false, true }, { -1, -1, 0 } },
	{ 3, { true, true, false }, { 2, 2, -1 } },
	{ 4, { true, false, true, false }, { 1, -1, 3, -1 } },
	{ 3, { true, true, true }, { -1, -1, -1 } },
};

static void
listeners_of_the_absent_go_to_the_next_one_present(void **state UNUSED)
{
	int to[NWORKERS_MAX];
	size_t i;
	unsigned k;

	for (i = 0; i < ARRAY_LEN(cases); i++) {
		lending_plan(cases[i].away, cases[i].n, to);
		for (k = 0; k < cases[i].n; k++)
			assert_int_equal(to[k], cases[i].to[k]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    listeners_of_the_absent_go_to_the_next_one_present),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
