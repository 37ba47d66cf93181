/* SPDX-License-Identifier: MIT */
#include "master/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "tests/unit/scratch.h"

/* What logfile.c reads of a configuration. */
struct wish {
	struct scratch scratch;
	struct config config;
};

static void
wish_make(struct wish *w, const char *file, const char *access)
{
	memset(w, 0, sizeof(*w));
	scratch_make(&w->scratch);
	w->config.log.file = *file != '\0'
				 ? xasprintf("%s/%s", w->scratch.dir, file)
				 : xstrdup("");
	w->config.log.access_file =
	    *access != '\0' ? xasprintf("%s/%s", w->scratch.dir, access)
			    : xstrdup("");
	w->config.log.usage_file = xstrdup("");
	w->config.state_dir = xstrdup(w->scratch.dir);
}

static void
wish_end(struct wish *w)
{
	free(w->config.log.file);
	free(w->config.log.access_file);
	free(w->config.log.usage_file);
	free(w->config.state_dir);
	scratch_remove(&w->scratch);
}

static struct logfile *
must_open(struct wish *w, bool foreground)
{
	struct buf why = BUF_INIT(1024);
	struct logfile *logs;

	if (logfile_open(&w->config, foreground, &logs, &why) != 0)
		fail_msg("%s", buf_string(&why));
	buf_fini(&why);
	return logs;
}

static bool
is_file(int fd, const char *path)
{
	struct stat a, b;

	return fd >= 0 && fstat(fd, &a) == 0 && stat(path, &b) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static void
each_log_has_the_file_that_is_named(void **state UNUSED)
{
	struct logfile *logs;
	struct wish w;

	wish_make(&w, "error.log", "access.log");
	logs = must_open(&w, false);
	assert_true(
	    is_file(logfile_fd(logs, IPC_LOG_ERROR), w.config.log.file));
	assert_true(is_file(logfile_stderr(logs), w.config.log.file));
	assert_true(is_file(
	    logfile_fd(logs, IPC_LOG_ACCESS), w.config.log.access_file));
	assert_true(logfile_has_spool(logs));
	assert_true(
	    is_file(logfile_fd(logs, IPC_LOG_USAGE), logfile_usage_path(logs)));
	logfile_close(logs);
	wish_end(&w);
}

static const struct {
	bool foreground;
	int error_fd;          /* of the message to workers */
	const char *stderr_is; /* of theirs at the start; NULL: ours */
} nameless[] = {
	{ true, STDERR_FILENO, NULL },
	{ false, -1, "/dev/null" },
};

static void
without_a_file_it_is_stderr_or_syslog(void **state UNUSED)
{
	struct logfile *logs;
	struct wish w;
	size_t i;

	wish_make(&w, "", "");
	for (i = 0; i < ARRAY_LEN(nameless); i++) {
		logs = must_open(&w, nameless[i].foreground);
		assert_int_equal(
		    logfile_fd(logs, IPC_LOG_ERROR), nameless[i].error_fd);
		if (nameless[i].stderr_is == NULL)
			assert_int_equal(logfile_stderr(logs), STDERR_FILENO);
		else
			assert_true(is_file(
			    logfile_stderr(logs), nameless[i].stderr_is));
		logfile_close(logs);
	}
	wish_end(&w);
}

static void
reopening_makes_the_files_anew(void **state UNUSED)
{
	AUTO_FREE char *moved = NULL;
	struct buf why = BUF_INIT(1024);
	struct logfile *logs;
	struct wish w;

	wish_make(&w, "error.log", "access.log");
	logs = must_open(&w, false);
	moved = xasprintf("%s.1", w.config.log.access_file);
	assert_int_equal(rename(w.config.log.access_file, moved), 0);
	assert_int_equal(logfile_reopen(logs, &why), 0);
	assert_true(is_file(
	    logfile_fd(logs, IPC_LOG_ACCESS), w.config.log.access_file));
	logfile_close(logs);
	buf_fini(&why);
	wish_end(&w);
}

static void
reopening_that_fails_keeps_what_is_open(void **state UNUSED)
{
	AUTO_FREE char *moved = NULL;
	struct buf why = BUF_INIT(1024);
	struct logfile *logs;
	struct wish w;

	wish_make(&w, "error.log", "access.log");
	logs = must_open(&w, false);
	moved = xasprintf("%s.1", w.config.log.access_file);
	assert_int_equal(rename(w.config.log.access_file, moved), 0);
	assert_int_equal(mkdir(w.config.log.access_file, 0700), 0);
	assert_int_equal(logfile_reopen(logs, &why), -EISDIR);
	assert_non_null(strstr(buf_string(&why), w.config.log.access_file));
	assert_true(is_file(logfile_fd(logs, IPC_LOG_ACCESS), moved));
	assert_true(
	    is_file(logfile_fd(logs, IPC_LOG_ERROR), w.config.log.file));
	logfile_close(logs);
	buf_fini(&why);
	wish_end(&w);
}

static unsigned nlines;

static void
count_line(const char *fmt UNUSED, ...)
{
	nlines++;
}

static void
texts_are_logged_line_by_line(void **state UNUSED)
{
	logfile_lines(count_line, "");
	assert_int_equal(nlines, 0);
	logfile_lines(count_line, "one\n\ntwo\nthree");
	assert_int_equal(nlines, 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_log_has_the_file_that_is_named),
		cmocka_unit_test(without_a_file_it_is_stderr_or_syslog),
		cmocka_unit_test(reopening_makes_the_files_anew),
		cmocka_unit_test(reopening_that_fails_keeps_what_is_open),
		cmocka_unit_test(texts_are_logged_line_by_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
