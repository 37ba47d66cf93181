/* SPDX-License-Identifier: MIT */
#include "master/options.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "build.h"
#include "common/alloc.h"

enum { ARGS_MAX = 6 };

static const struct {
	const char *args[ARGS_MAX];
	int rc;
	enum options_mode mode;
	bool foreground;
	int verbose;
	const char *config;
} lines[] = {
	{ { NULL }, 0, OPTIONS_RUN, false, 0, PATH_CONFIG },
	{ { "-f", "-c", "/a/b" }, 0, OPTIONS_RUN, true, 0, "/a/b" },
	{ { "-fc/a/b", "-vv", "-v" }, 0, OPTIONS_RUN, true, 3, "/a/b" },
	{ { "-t" }, 0, OPTIONS_TEST, false, 0, PATH_CONFIG },
	{ { "-tT" }, 0, OPTIONS_DUMP, false, 0, PATH_CONFIG },
	{ { "-Tt" }, 0, OPTIONS_DUMP, false, 0, PATH_CONFIG },
	{ { "-tV" }, 0, OPTIONS_VERSIONS, false, 0, PATH_CONFIG },
	{ { "-hV" }, 0, OPTIONS_HELP, false, 0, PATH_CONFIG },
	{ { "-x" }, OPTIONS_USAGE, 0, false, 0, NULL },
	{ { "-c" }, OPTIONS_USAGE, 0, false, 0, NULL },
	{ { "surplus" }, OPTIONS_USAGE, 0, false, 0, NULL },
};

static int
parse(struct options *o, const char *const *args)
{
	char name[] = "fairlead";
	char *argv[ARGS_MAX + 2] = { name };
	int argc = 1;

	int rc;

	while (argc <= ARGS_MAX && args[argc - 1] != NULL) {
		argv[argc] = xstrdup(args[argc - 1]);
		argc++;
	}
	optind = 0;
	rc = options_parse(o, argc, argv);
	while (argc > 1)
		free(argv[--argc]);
	return rc;
}

/* What is wrong is said on stderr, where it would only disturb. */
static int
parse_quietly(struct options *o, const char *const *args)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int kept = dup(STDERR_FILENO);
	int rc;

	assert_true(null >= 0 && kept >= 0);
	assert_true(dup2(null, STDERR_FILENO) >= 0);
	rc = parse(o, args);
	assert_true(dup2(kept, STDERR_FILENO) >= 0);
	(void)close(kept);
	(void)close(null);
	return rc;
}

static void
lines_are_read_or_refused(void **state UNUSED)
{
	struct options o;
	size_t i;

	for (i = 0; i < ARRAY_LEN(lines); i++) {
		if (parse_quietly(&o, lines[i].args) != lines[i].rc)
			fail_msg("line %zu", i);
		if (lines[i].rc == 0) {
			assert_int_equal(o.mode, lines[i].mode);
			assert_int_equal(o.foreground, lines[i].foreground);
			assert_int_equal(o.verbose, lines[i].verbose);
			assert_string_equal(o.config_path, lines[i].config);
		}
		options_fini(&o);
	}
}

static void
relative_paths_are_found_from_anywhere(void **state UNUSED)
{
	const char *const args[ARGS_MAX] = { "-c", "a.conf", "-p", "b.pid" };
	struct options o;

	assert_int_equal(parse(&o, args), 0);
	assert_int_equal(o.config_path[0], '/');
	assert_non_null(strstr(o.config_path, "/a.conf"));
	assert_int_equal(o.pid_path[0], '/');
	options_fini(&o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_read_or_refused),
		cmocka_unit_test(relative_paths_are_found_from_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
