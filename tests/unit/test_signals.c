/* SPDX-License-Identifier: MIT */
#include "master/signals.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "master/master.h"

static const struct {
	int number;
	void (*action)(struct master *master);
} wanted[] = {
	{ SIGHUP, master_reload },
	{ SIGUSR1, master_reopen },
	{ SIGQUIT, master_drain },
	{ SIGTERM, master_stop },
	{ SIGINT, master_stop },
	{ SIGUSR2, master_upgrade },
	{ SIGCHLD, master_reap },
	{ SIGPIPE, NULL },
};

static const struct signal_row *
find_row(int number)
{
	size_t i;

	for (i = 0; i < signal_table_len; i++) {
		if (signal_table[i].number == number)
			return &signal_table[i];
	}
	return NULL;
}

static void
each_signal_has_its_action(void **state UNUSED)
{
	const struct signal_row *row;
	size_t i;

	for (i = 0; i < ARRAY_LEN(wanted); i++) {
		row = find_row(wanted[i].number);
		if (row == NULL || row->action != wanted[i].action)
			fail_msg("signal %d", wanted[i].number);
	}
	assert_int_equal(signal_table_len, ARRAY_LEN(wanted));
}

static void
rows_are_unique_named_and_explained(void **state UNUSED)
{
	const struct signal_row *row;
	size_t i;

	for (i = 0; i < signal_table_len; i++) {
		row = &signal_table[i];
		assert_ptr_equal(find_row(row->number), row);
		assert_string_equal(row->name, sigabbrev_np(row->number));
		assert_true(strlen(row->text) > 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_signal_has_its_action),
		cmocka_unit_test(rows_are_unique_named_and_explained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
