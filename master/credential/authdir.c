/* SPDX-License-Identifier: MIT */
/* auth-dir as a whole; see authdir.h. */
#include "master/credential/authdir.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/alloc.h"
#include "master/credential/credfile.h"

static enum auth_outcome
parse(const char *name, const struct buf *text, struct auth_reading *r,
    struct buf *remark)
{
	switch (credfile_parse(name, text->data, text->len, &r->cred, remark)) {
	case 0:
		return AUTH_FILE_GOOD;
	case CREDFILE_IGNORED:
		return AUTH_FILE_IGNORED;
	default:
		return AUTH_FILE_BAD;
	}
}

static enum auth_outcome
read_and_parse(int dirfd, const char *name, const struct auth_file *known,
    struct buf *text, struct auth_reading *r, struct buf *remark)
{
	struct stat st;
	int rc = credfile_read(dirfd, name, text, &st);

	if (rc == -ENOENT || rc == -ELOOP || rc == -ENXIO)
		return AUTH_FILE_GONE;
	if (rc < 0) {
		buf_printf(remark, "cannot be read: %s", strerror(-rc));
		return AUTH_FILE_BAD;
	}
	r->exposed = (st.st_mode & 077) != 0;
	if (r->exposed)
		return AUTH_FILE_BAD;
	digest_of(text->data, text->len, &r->digest);
	if (known != NULL && digest_equal(&known->digest, &r->digest))
		return AUTH_FILE_SAME;
	return parse(name, text, r, remark);
}

struct auth_reading
authdir_read(int dirfd, const char *name, const struct auth_file *known,
    struct buf *text, struct buf *remark)
{
	struct auth_reading r = { 0 };

	r.outcome = read_and_parse(dirfd, name, known, text, &r, remark);
	if (text->data != NULL)
		secret_wipe(text->data, text->len);
	return r;
}

void
auth_files_set(
    struct name_map *files, const char *name, const struct digest *digest)
{
	struct auth_file *file = name_map_find(files, name);

	if (file == NULL) {
		file = xcalloc(1, sizeof(*file));
		file->name = xstrdup(name);
		(void)name_map_put(files, file);
	}
	file->digest = *digest;
}

static void
file_free(struct auth_file *file)
{
	if (file == NULL)
		return;
	free(file->name);
	free(file);
}

void
auth_files_remove(struct name_map *files, const char *name)
{
	file_free(name_map_remove(files, name));
}

void
auth_files_fini(struct name_map *files)
{
	size_t i;

	for (i = 0; i < files->n; i++)
		file_free(files->v[i]);
	name_map_fini(files);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A list that broke off would look like deleted files. */
static int
list_names(DIR *d, char ***names, size_t *n)
{
	struct dirent *entry;
	size_t cap = 0;

	for (errno = 0; (entry = readdir(d)) != NULL; errno = 0) {
		if (!credfile_is_name(entry->d_name))
			continue;
		xgrow(names, &cap, *n, sizeof(**names));
		(*names)[(*n)++] = xstrdup(entry->d_name);
	}
	return -errno;
}

int
authdir_list(const char *dir, char ***names, size_t *n)
{
	DIR *d;
	int rc;

	*names = NULL;
	*n = 0;
	d = opendir(dir);
	if (d == NULL)
		return -errno;
	rc = list_names(d, names, n);
	(void)closedir(d);
	if (rc < 0) {
		authdir_list_free(*names, *n);
		return rc;
	}
	if (*n > 0)
		qsort(*names, *n, sizeof(**names), compare_names);
	return 0;
}

void
authdir_list_add(char ***names, size_t *n, const struct name_map *files)
{
	size_t listed = *n;
	const char *name;
	size_t i;

	*names = xreallocarray(*names, listed + files->n, sizeof(**names));
	for (i = 0; i < files->n; i++) {
		name = name_map_name(files->v[i]);
		if (bsearch(&name, *names, listed, sizeof(**names),
			compare_names) == NULL)
			(*names)[(*n)++] = xstrdup(name);
	}
}

void
authdir_list_free(char **names, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		free(names[i]);
	free(names);
}
