/* SPDX-License-Identifier: MIT */
#include "master/upgrade/probe.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "common/alloc.h"

struct stage {
	struct event_base *base;
	struct event *child;
	struct probe *probe;
	int answers, status;
	char *text;
};

static void
on_child(evutil_socket_t number UNUSED, short what UNUSED, void *arg)
{
	struct stage *st = arg;
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (st->probe != NULL)
			probe_child_ended(st->probe, pid, status);
	}
}

static void
on_answer(void *ctx, int status, const char *text)
{
	struct stage *st = ctx;

	st->answers++;
	st->status = status;
	st->text = xstrdup(text);
	probe_free(st->probe);
	st->probe = NULL;
	(void)event_base_loopbreak(st->base);
}

static void
stage_make(struct stage *st)
{
	*st = (struct stage){ .base = event_base_new() };
	st->child = evsignal_new(st->base, SIGCHLD, on_child, st);
	(void)event_add(st->child, NULL);
}

static void
stage_end(struct stage *st)
{
	free(st->text);
	event_free(st->child);
	event_base_free(st->base);
}

static const struct {
	const char *script;
	int status;
	const char *text;
} cases[] = {
	{ "echo one; echo two >&2", 0, "one\ntwo" },
	{ "exit 3", 3, "" },
	{ "kill -9 $$", -1, "" },
};

static void
output_and_status_are_told_once(void **state UNUSED)
{
	char shell[] = "/bin/sh", flag[] = "-c";
	struct stage st;
	size_t i;

	for (i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_FREE char *script = xstrdup(cases[i].script);
		char *const argv[] = { shell, flag, script, NULL };

		stage_make(&st);
		assert_int_equal(
		    probe_start(st.base, argv, on_answer, &st, &st.probe), 0);
		(void)event_base_dispatch(st.base);
		assert_int_equal(st.answers, 1);
		assert_int_equal(st.status, cases[i].status);
		assert_string_equal(st.text, cases[i].text);
		stage_end(&st);
	}
}

static void
a_program_that_cannot_be_executed_is_an_answer(void **state UNUSED)
{
	char path[] = "/nonexistent";
	char *const argv[] = { path, NULL };
	struct stage st;

	stage_make(&st);
	assert_int_equal(
	    probe_start(st.base, argv, on_answer, &st, &st.probe), 0);
	(void)event_base_dispatch(st.base);
	assert_int_not_equal(st.status, 0);
	assert_string_equal(st.text, "No such file or directory");
	stage_end(&st);
}

static void
one_that_is_freed_tells_nothing_and_leaves_no_process(void **state UNUSED)
{
	char sleeper[] = "/bin/sleep", long_time[] = "1000";
	char *const argv[] = { sleeper, long_time, NULL };
	struct stage st;
	int status;

	stage_make(&st);
	assert_int_equal(
	    probe_start(st.base, argv, on_answer, &st, &st.probe), 0);
	probe_free(st.probe);
	st.probe = NULL;
	assert_true(waitpid(-1, &status, 0) > 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(st.answers, 0);
	stage_end(&st);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_and_status_are_told_once),
		cmocka_unit_test(
		    a_program_that_cannot_be_executed_is_an_answer),
		cmocka_unit_test(
		    one_that_is_freed_tells_nothing_and_leaves_no_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
