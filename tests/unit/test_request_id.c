/* SPDX-License-Identifier: MIT */
#include "worker/client/request_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/attr.h"

enum { N = 5000 };

static int
compare(const void *a, const void *b)
{
	return memcmp(a, b, REQUEST_ID_LEN);
}

static void
ids_are_distinct_sorted_and_safe_in_a_header(void **state UNUSED)
{
	static char ids[N][REQUEST_ID_LEN + 1], sorted[sizeof(ids)];
	size_t i;

	for (i = 0; i < N; i++) {
		request_id_make(ids[i]);
		assert_int_equal(strlen(ids[i]), REQUEST_ID_LEN);
		assert_int_equal(
		    strspn(ids[i], "0123456789abcdefghjkmnpqrstvwxyz"),
		    REQUEST_ID_LEN);
	}
	/* A process counts upwards, so its own order is the sorted one. */
	memcpy(sorted, ids, sizeof(ids));
	qsort(sorted, N, sizeof(ids[0]), compare);
	assert_memory_equal(sorted, ids, sizeof(ids));
	for (i = 1; i < N; i++)
		assert_string_not_equal(ids[i - 1], ids[i]);
}

/* Exec'ed workers share nothing; a fork before the first id comes close. */
static void
two_processes_do_not_share_ids(void **state UNUSED)
{
	char ids[2][REQUEST_ID_LEN + 1];
	int pipes[2], i;
	pid_t pid;

	assert_int_equal(pipe(pipes), 0);
	for (i = 0; i < 2; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			request_id_make(ids[i]);
			_exit(write(pipes[1], ids[i], sizeof(ids[i])) < 0);
		}
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(
		    read(pipes[0], ids[i], sizeof(ids[i])), sizeof(ids[i]));
	}
	assert_string_not_equal(ids[0], ids[1]);
	close(pipes[0]);
	close(pipes[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_processes_do_not_share_ids),
		cmocka_unit_test(ids_are_distinct_sorted_and_safe_in_a_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
