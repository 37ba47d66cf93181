/* SPDX-License-Identifier: MIT */
/*
 * Saving a credential file: killed at every system call in turn, it is the old
 * file or the new one. The writer is a child that is stopped by ptrace(2).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "master/credential/atomic_file.h"
#include "master/credential/credfile.h"
#include "tests/unit/scratch.h"

enum { STOPS_MAX = 4000 };

static const char name[] = "a.json";
static const char old_text[] = "{\"type\": \"claude\", \"mine\": [1.0, {}]}\n";
static const char new_text[] =
    "{\"type\": \"claude\", \"mine\": [1.0, {}], \"disabled\": true}\n";

static struct scratch scratch;

static int
set_up(void **state UNUSED)
{
	scratch_make(&scratch);
	return 0;
}

static int
tear_down(void **state UNUSED)
{
	scratch_remove(&scratch);
	return 0;
}

static char *
path_of(const char *file)
{
	return xasprintf("%s/%s", scratch.dir, file);
}

static void
write_text(const char *file, const char *text)
{
	AUTO_FREE char *path = path_of(file);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

static void
read_text(char *text, size_t size)
{
	AUTO_FREE char *path = path_of(name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, text, size - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	(void)close(fd);
}

static unsigned
count_files(void)
{
	DIR *d = opendir(scratch.dir);
	unsigned n = 0;

	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n - 2;
}

static int
save(void)
{
	struct buf text = BUF_INIT(2 * CREDFILE_BYTES_MAX);
	int rc = credfile_set_disabled(scratch.dir, name, true, &text);

	credfile_wipe(&text);
	return rc;
}

/* In the child: from here on it stops at every system call. */
static int
save_traced(void *ctx UNUSED)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		return 2;
	(void)raise(SIGSTOP);
	return save() == 0 ? 0 : 1;
}

/*
 * Lets a writer come as far as its stop number `stops`, and kills it there.
 * Its exit status if it ended before; -1: killed.
 */
static int
kill_at(unsigned stops)
{
	pid_t pid = child_start(save_traced, NULL);
	int status;

	for (unsigned i = 0;; i++) {
		if (waitpid(pid, &status, 0) != pid)
			abort();
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		assert_true(WIFSTOPPED(status));
		if (i == stops) {
			(void)kill(pid, SIGKILL);
			(void)waitpid(pid, &status, 0);
			return -1;
		}
		(void)ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
	}
}

static void
writer_killed_at_any_system_call_leaves_old_or_new(void **state UNUSED)
{
	unsigned stops, olds = 0, news = 0;
	char text[256];
	int rc = -1;

	for (stops = 0; rc < 0 && stops < STOPS_MAX; stops++) {
		write_text(name, old_text);
		rc = kill_at(stops);
		if (rc == 2)
			skip();
		read_text(text, sizeof(text));
		if (strcmp(text, old_text) == 0)
			olds++;
		else
			assert_string_equal(text, new_text);
		news += strcmp(text, new_text) == 0;
		atomic_file_sweep(scratch.dir);
		assert_int_equal(count_files(), 1);
	}
	assert_int_equal(rc, 0);
	assert_string_equal(text, new_text);
	/* It was killed on either side of the rename, and often. */
	assert_true(olds > 10);
	assert_true(news > 2);
}

static void
save_keeps_mode_and_leaves_nothing_behind(void **state UNUSED)
{
	AUTO_FREE char *path = path_of(name);
	struct stat st;

	write_text(name, old_text);
	assert_int_equal(save(), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(count_files(), 1);
}

static void
file_that_changed_meanwhile_is_not_replaced(void **state UNUSED)
{
	struct buf was = BUF_INIT(256), now = BUF_INIT(256);
	char text[256];

	write_text(name, "somebody else's");
	buf_puts(&was, old_text);
	buf_puts(&now, new_text);
	assert_int_equal(
	    atomic_file_replace(scratch.dir, name, &was, &now), -EAGAIN);
	read_text(text, sizeof(text));
	assert_string_equal(text, "somebody else's");
	assert_int_equal(count_files(), 1);
	buf_fini(&was);
	buf_fini(&now);
}

/* The first time somebody else writes in between. */
static int
edit_with_company(void *ctx, const struct buf *was, struct buf *now)
{
	unsigned *calls = ctx;

	if ((*calls)++ == 0)
		write_text(name, "theirs");
	buf_append(now, was->data, was->len);
	buf_puts(now, "+ours");
	return 0;
}

static void
edit_is_made_again_of_what_stands_there_by_then(void **state UNUSED)
{
	struct buf text = BUF_INIT(2 * CREDFILE_BYTES_MAX);
	unsigned calls = 0;
	char found[256];

	write_text(name, old_text);
	assert_int_equal(
	    credfile_edit(scratch.dir, name, edit_with_company, &calls, &text),
	    0);
	assert_int_equal(calls, 2);
	read_text(found, sizeof(found));
	assert_string_equal(found, "theirs+ours");
	assert_string_equal(buf_string(&text), found);
	credfile_wipe(&text);
}

static void
link_stays_and_its_target_is_replaced(void **state UNUSED)
{
	AUTO_FREE char *path = path_of(name);
	char text[256];
	struct stat st;

	write_text("target", old_text);
	(void)unlink(path);
	assert_int_equal(symlink("target", path), 0);
	assert_int_equal(save(), 0);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	read_text(text, sizeof(text));
	assert_string_equal(text, new_text);
}

static void
file_that_is_gone_is_not_made(void **state UNUSED)
{
	assert_int_equal(save(), -ENOENT);
	assert_int_equal(count_files(), 0);
}

static void
probe_says_whether_it_could_be_written(void **state UNUSED)
{
	struct buf text = BUF_INIT(256);

	buf_puts(&text, old_text);
	assert_int_equal(atomic_file_probe(scratch.dir, name, &text), -ENOENT);
	write_text(name, old_text);
	assert_int_equal(atomic_file_probe(scratch.dir, name, &text), 0);
	assert_int_equal(count_files(), 1);
	buf_fini(&text);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writer_killed_at_any_system_call_leaves_old_or_new),
		TEST(save_keeps_mode_and_leaves_nothing_behind),
		TEST(file_that_changed_meanwhile_is_not_replaced),
		TEST(edit_is_made_again_of_what_stands_there_by_then),
		TEST(link_stays_and_its_target_is_replaced),
		TEST(file_that_is_gone_is_not_made),
		TEST(probe_says_whether_it_could_be_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
