/* SPDX-License-Identifier: MIT */
#include "master/options.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build.h"
#include "common/alloc.h"

struct option_row {
	char letter;
	const char *argument; /* its name in the usage, NULL for a flag */
	const char *text;
	void (*apply)(struct options *options, const char *argument);
};

static void
raise_mode(struct options *options, enum options_mode mode)
{
	if (options->mode < mode)
		options->mode = mode;
}

static void
set_path(char **path, const char *argument)
{
	free(*path);
	*path = xstrdup(argument);
}

static void
on_config(struct options *options, const char *argument)
{
	set_path(&options->config_path, argument);
}

static void
on_foreground(struct options *options, const char *argument UNUSED)
{
	options->foreground = true;
}

static void
on_help(struct options *options, const char *argument UNUSED)
{
	raise_mode(options, OPTIONS_HELP);
}

static void
on_pidfile(struct options *options, const char *argument)
{
	set_path(&options->pid_path, argument);
}

static void
on_dump(struct options *options, const char *argument UNUSED)
{
	raise_mode(options, OPTIONS_DUMP);
}

static void
on_test(struct options *options, const char *argument UNUSED)
{
	raise_mode(options, OPTIONS_TEST);
}

static void
on_versions(struct options *options, const char *argument UNUSED)
{
	raise_mode(options, OPTIONS_VERSIONS);
}

static void
on_verbose(struct options *options, const char *argument UNUSED)
{
	options->verbose++;
}

static const struct option_row rows[] = {
	{ 'c', "file", "configuration (default " PATH_CONFIG ")", on_config },
	{ 'f', NULL, "stay in the foreground; without log.file log to stderr",
	    on_foreground },
	{ 'h', NULL, "show this help", on_help },
	{ 'p', "pidfile", "write the pid there, not in runtime-dir",
	    on_pidfile },
	{ 'T', NULL, "test the configuration and show all of it", on_dump },
	{ 't', NULL, "test the configuration", on_test },
	{ 'V', NULL, "show versions", on_versions },
	{ 'v', NULL, "log more", on_verbose },
};

void
options_usage(FILE *out)
{
	size_t i;

	(void)fputs("usage: fairlead [-fhTtVv] [-c file] [-p pidfile]\n", out);
	for (i = 0; i < ARRAY_LEN(rows); i++)
		(void)fprintf(out, "  -%c %-8s %s\n", rows[i].letter,
		    rows[i].argument != NULL ? rows[i].argument : "",
		    rows[i].text);
}

static const struct option_row *
find_row(int letter)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].letter == letter)
			return &rows[i];
	}
	return NULL;
}

static void
spell_letters(char *out)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		*out++ = rows[i].letter;
		if (rows[i].argument != NULL)
			*out++ = ':';
	}
	*out = '\0';
}

/* The files must be found wherever the process then stands. */
static void
make_absolute(char **path)
{
	AUTO_FREE char *cwd = NULL;
	char *absolute;

	if (*path == NULL || **path == '/')
		return;
	cwd = getcwd(NULL, 0);
	if (cwd == NULL)
		return;
	absolute = xasprintf("%s/%s", cwd, *path);
	free(*path);
	*path = absolute;
}

/* Of a name without a slash the shell has found the program in PATH. */
static char *
search_path(const char *name)
{
	const char *dir = getenv("PATH");
	char *path;
	size_t len;

	while (dir != NULL && *dir != '\0') {
		len = strcspn(dir, ":");
		path = xasprintf("%.*s/%s", (int)len, dir, name);
		if (*path == '/' && access(path, X_OK) == 0)
			return path;
		free(path);
		dir += len + (dir[len] == ':');
	}
	return NULL;
}

/*
 * Where the program was found, links and all: an upgrade executes what is
 * there by then.
 */
static char *
find_program(const char *name)
{
	char self[PATH_MAX];
	char *path =
	    strchr(name, '/') != NULL ? xstrdup(name) : search_path(name);
	ssize_t n;

	make_absolute(&path);
	if (path != NULL)
		return path;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	return xstrdup(self);
}

int
options_parse(struct options *options, int argc, char **argv)
{
	char letters[2 * ARRAY_LEN(rows) + 1];
	const struct option_row *row;
	int letter;

	*options = (struct options){ .config_path = xstrdup(PATH_CONFIG) };
	spell_letters(letters);
	while ((letter = getopt(argc, argv, letters)) != -1) {
		row = find_row(letter);
		if (row == NULL) {
			options_usage(stderr);
			return OPTIONS_USAGE;
		}
		row->apply(options, optarg);
	}
	if (optind < argc) {
		(void)fprintf(stderr, "fairlead: unexpected argument \"%s\"\n",
		    argv[optind]);
		options_usage(stderr);
		return OPTIONS_USAGE;
	}
	options->program_path = find_program(argv[0]);
	make_absolute(&options->config_path);
	make_absolute(&options->pid_path);
	return 0;
}

void
options_fini(struct options *options)
{
	free(options->program_path);
	free(options->config_path);
	free(options->pid_path);
	*options = (struct options){ 0 };
}
