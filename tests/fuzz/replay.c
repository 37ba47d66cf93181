/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target over files and directories of files, so that a corpus
 * is a test of every build. A crash of the fuzzer becomes a file there.
 */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/attr.h"
#include "tests/fuzz/fuzz.h"

static int
fail(const char *path)
{
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	return -1;
}

/* Returns how many inputs were run, here 1; -1 on failure. */
static int
replay_file(const char *path, size_t size)
{
	AUTO_FCLOSE FILE *file = fopen(path, "rb");
	AUTO_FREE uint8_t *data = malloc(size > 0 ? size : 1);

	if (file == NULL || data == NULL || fread(data, 1, size, file) != size)
		return fail(path);
	(void)LLVMFuzzerTestOneInput(data, size);
	return 1;
}

static int
skip_dots(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int replay(const char *path);

static int
replay_directory(const char *path)
{
	struct dirent **entries;
	int total = 0;
	int n = scandir(path, &entries, skip_dots, alphasort);
	int count;
	int i;

	if (n < 0)
		return fail(path);
	for (i = 0; i < n; i++) {
		AUTO_FREE char *name = NULL;

		if (asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0)
			abort();
		count = total < 0 ? -1 : replay(name);
		total = count < 0 ? -1 : total + count;
		free(entries[i]);
	}
	free(entries);
	return total;
}

static int
replay(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return fail(path);
	if (S_ISDIR(st.st_mode))
		return replay_directory(path);
	return replay_file(path, (size_t)st.st_size);
}

int
main(int argc, char **argv)
{
	int total = 0;
	int n;
	int i;

	for (i = 1; i < argc; i++) {
		n = replay(argv[i]);
		if (n < 0)
			return 1;
		total += n;
	}
	printf("%d inputs\n", total);
	return total > 0 ? 0 : 1;
}
