/* SPDX-License-Identifier: MIT */
#include "worker/select/ready.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/attr.h"
#include "common/board.h"

enum { N = 300, NOW = 1000 };

/* Every third member of N is ready. */
static void
make(struct ready_view *view, const void *members)
{
	ready_view_begin(view, members, N, 7, NOW);
	for (uint32_t i = 0; i < N; i += 3)
		ready_view_set(view, i);
	ready_view_end(view);
}

static void
bits_are_found_and_counted_within_bounds(void **state UNUSED)
{
	static const int members[1];
	struct ready_view view = { 0 };

	make(&view, members);
	for (uint32_t from = 0; from <= N; from++) {
		for (uint32_t end = from; end <= N; end += 7) {
			uint32_t first = from, count = 0;

			while (first < end && first % 3 != 0)
				first++;
			for (uint32_t i = from; i < end; i++)
				count += i % 3 == 0;
			assert_int_equal(
			    ready_view_next(&view, from, end), first);
			assert_int_equal(
			    ready_view_count(&view, from, end - from), count);
		}
	}
	assert_true(ready_view_has(&view, 299 - 2));
	assert_false(ready_view_has(&view, 299));
	free(view.words);
}

static void
long_stretches_of_benched_members_are_stepped_over(void **state UNUSED)
{
	static const struct {
		uint32_t n, ready[3], nready;
	} rows[] = {
		{ 640, { 0 }, 0 },
		{ 640, { 0 }, 1 },
		{ 640, { 639 }, 1 },
		{ 641, { 640 }, 1 },
		{ 639, { 638 }, 1 },
		{ 700, { 63, 64, 512 }, 3 },
		{ 64, { 63 }, 1 },
	};
	static const int members[1];
	struct ready_view view = { 0 };

	for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
		uint32_t n = rows[r].n, next = n, i = n + 1;

		ready_view_begin(&view, members, n, 7, NOW);
		for (uint32_t k = 0; k < rows[r].nready; k++)
			ready_view_set(&view, rows[r].ready[k]);
		ready_view_end(&view);
		while (i-- > 0) {
			if (i < n && ready_view_has(&view, i))
				next = i;
			assert_int_equal(ready_view_next(&view, i, n), next);
		}
	}
	free(view.words);
}

static void
view_is_of_one_snapshot_and_a_short_time(void **state UNUSED)
{
	static const int members[2];
	struct ready_view view = { 0 };

	make(&view, members);
	assert_true(ready_view_holds(&view, members, 7, NOW));
	assert_true(
	    ready_view_holds(&view, members, 7, NOW + READY_KEPT_MS - 1));
	assert_false(ready_view_holds(&view, members, 7, NOW + READY_KEPT_MS));
	assert_false(ready_view_holds(&view, members, 7, NOW - 1));
	assert_false(ready_view_holds(&view, members, 8, NOW));
	assert_false(ready_view_holds(&view, members + 1, 7, NOW));
	/* The first bench that ends makes it void, to the millisecond. */
	ready_view_until(&view, NOW + 5);
	ready_view_until(&view, NOW + 9);
	ready_view_until(&view, 0);
	assert_true(ready_view_holds(&view, members, 7, NOW + 4));
	assert_false(ready_view_holds(&view, members, 7, NOW + 5));
	free(view.words);
}

static void
small_tiers_are_looked_at_each_time(void **state UNUSED)
{
	static const int members[1];
	struct ready_view view = { 0 };

	ready_view_begin(&view, members, READY_SMALL, 7, NOW);
	ready_view_end(&view);
	assert_false(ready_view_holds(&view, members, 7, NOW));
	ready_view_begin(&view, members, READY_SMALL + 1, 7, NOW);
	ready_view_end(&view);
	assert_true(ready_view_holds(&view, members, 7, NOW));
	free(view.words);
}

static void
each_cursor_has_its_view(void **state UNUSED)
{
	struct ready_views views = { 0 };
	struct ready_view *last = ready_views_at(&views, BOARD_CURSORS - 1);

	make(last, views.views);
	assert_ptr_equal(ready_views_at(&views, BOARD_CURSORS - 1), last);
	assert_ptr_not_equal(ready_views_at(&views, 0), last);
	assert_null(ready_views_at(&views, 0)->words);
	ready_views_fini(&views);
	assert_null(views.views);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bits_are_found_and_counted_within_bounds),
		cmocka_unit_test(
		    long_stretches_of_benched_members_are_stepped_over),
		cmocka_unit_test(view_is_of_one_snapshot_and_a_short_time),
		cmocka_unit_test(small_tiers_are_looked_at_each_time),
		cmocka_unit_test(each_cursor_has_its_view),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
