/* SPDX-License-Identifier: MIT */
#include "master/statelock.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

static void
a_lock_is_held_once_and_says_by_whom(void **state UNUSED)
{
	struct scratch s;
	int first, second;
	pid_t holder;

	scratch_make(&s);
	assert_int_equal(statelock_take(s.dir, "lock", &first, &holder), 0);
	assert_int_equal(
	    statelock_take(s.dir, "lock", &second, &holder), STATELOCK_HELD);
	assert_int_equal(holder, getpid());
	assert_int_equal(second, -1);
	(void)close(first);
	assert_int_equal(statelock_take(s.dir, "lock", &first, &holder), 0);
	(void)close(first);
	scratch_remove(&s);
}

static void
a_lock_closes_on_exec(void **state UNUSED)
{
	struct scratch s;
	pid_t holder;
	int fd;

	scratch_make(&s);
	assert_int_equal(statelock_take(s.dir, "lock", &fd, &holder), 0);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	(void)close(fd);
	scratch_remove(&s);
}

static int
take_and_die(void *dir)
{
	pid_t holder;
	int fd;

	if (statelock_take(dir, "lock", &fd, &holder) != 0)
		return 1;
	(void)raise(SIGKILL);
	return 2;
}

static void
a_lock_goes_with_its_holder_however_it_ends(void **state UNUSED)
{
	struct scratch s;
	pid_t holder;
	int fd;

	scratch_make(&s);
	assert_int_equal(
	    child_wait(child_start(take_and_die, s.dir)), -SIGKILL);
	assert_int_equal(statelock_take(s.dir, "lock", &fd, &holder), 0);
	(void)close(fd);
	scratch_remove(&s);
}

static void
no_directory_is_an_error(void **state UNUSED)
{
	pid_t holder;
	int fd;

	assert_int_equal(
	    statelock_take("/nonexistent", "lock", &fd, &holder), -ENOENT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lock_is_held_once_and_says_by_whom),
		cmocka_unit_test(a_lock_closes_on_exec),
		cmocka_unit_test(a_lock_goes_with_its_holder_however_it_ends),
		cmocka_unit_test(no_directory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
