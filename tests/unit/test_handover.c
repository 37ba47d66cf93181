/* SPDX-License-Identifier: MIT */
/* The program that takes over in these tests is this very program. */
#include "master/upgrade/handover.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { TOOK_OVER = 42, SECRET = 7 };

static bool
survives_exec(int fd)
{
	return (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
}

static void
a_descriptor_is_open_over_the_exec_and_closed_over_the_next(void **state UNUSED)
{
	cJSON *doc = cJSON_CreateObject();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	handover_put_fd(doc, "fd", fd);
	handover_put_fd(doc, "none", -1);
	assert_true(survives_exec(fd));
	assert_int_equal(handover_take_fd(doc, "fd"), fd);
	assert_false(survives_exec(fd));
	assert_int_equal(handover_take_fd(doc, "none"), -1);
	assert_int_equal(handover_take_fd(NULL, "fd"), -1);
	(void)close(fd);
	assert_int_equal(handover_take_fd(doc, "fd"), -1);
	cJSON_Delete(doc);
}

static void
a_start_like_any_other_finds_nothing(void **state UNUSED)
{
	struct buf why = BUF_INIT(4096);
	cJSON *doc;

	assert_int_equal(handover_read(&doc, &why), 0);
	assert_null(doc);
	buf_fini(&why);
}

static void
what_is_no_handover_is_refused_and_not_passed_on(void **state UNUSED)
{
	static const char *const values[] = { "", "x", "2", "999999", "-1" };
	struct buf why = BUF_INIT(4096);
	cJSON *doc;
	size_t i;

	for (i = 0; i < ARRAY_LEN(values); i++) {
		buf_clear(&why);
		(void)setenv(HANDOVER_VARIABLE, values[i], 1);
		assert_true(handover_read(&doc, &why) < 0);
		assert_null(doc);
		assert_true(why.len > 0);
		assert_null(getenv(HANDOVER_VARIABLE));
	}
	buf_fini(&why);
}

/* What the program that took over makes of it. */
static int
judge_handover(const cJSON *doc)
{
	sigset_t blocked;

	if (getenv(HANDOVER_VARIABLE) != NULL)
		return 2;
	(void)sigprocmask(SIG_BLOCK, NULL, &blocked);
	if (sigismember(&blocked, SIGTERM) != 1)
		return 3;
	if (handover_number(doc, "number") != SECRET ||
	    strcmp(handover_string(doc, "text"), "said") != 0 ||
	    handover_take_fd(doc, "fd") < 0)
		return 4;
	return TOOK_OVER;
}

/* The program that the child of the test below executes. */
static int
take_over(void)
{
	struct buf why = BUF_INIT(4096);
	cJSON *doc = NULL;
	int verdict = 1;

	if (handover_read(&doc, &why) == 0 && doc != NULL)
		verdict = judge_handover(doc);
	cJSON_Delete(doc);
	buf_fini(&why);
	return verdict;
}

static NORETURN void
hand_over(void)
{
	char name[] = "taking over";
	char *const argv[] = { name, NULL };
	cJSON *doc = cJSON_CreateObject();

	handover_put_number(doc, "handover", HANDOVER_VERSION);
	handover_put_number(doc, "number", SECRET);
	(void)cJSON_AddStringToObject(doc, "text", "said");
	handover_put_fd(doc, "fd", open("/dev/null", O_RDONLY | O_CLOEXEC));
	if (handover_exec(doc, -1, "/nonexistent", argv) == 0)
		_exit(5);
	_exit(handover_exec(doc, open("/proc/self/exe", O_PATH | O_CLOEXEC), "",
		  argv) < 0);
}

static void
the_next_program_reads_what_was_handed_over(void **state UNUSED)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		hand_over();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), TOOK_OVER);
}

static void
layouts_fit_into_their_line(void **state UNUSED)
{
	char text[HANDOVER_LAYOUTS_MAX];

	handover_layouts(text, sizeof(text));
	assert_true(strlen(text) < sizeof(text) - 1);
	assert_non_null(strstr(text, "board "));
}

int
main(int argc UNUSED, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    a_descriptor_is_open_over_the_exec_and_closed_over_the_next),
		cmocka_unit_test(a_start_like_any_other_finds_nothing),
		cmocka_unit_test(
		    what_is_no_handover_is_refused_and_not_passed_on),
		cmocka_unit_test(the_next_program_reads_what_was_handed_over),
		cmocka_unit_test(layouts_fit_into_their_line),
	};

	if (strcmp(argv[0], "taking over") == 0)
		return take_over();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
