/* SPDX-License-Identifier: MIT */
/* Replacing a small file as one step; see atomic_file.h. */
#include "master/credential/atomic_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/secret.h"
#include "common/str.h"

static const char temp_head[] = ".fairlead-";
static const char temp_tail[] = ".tmp";

enum { TEMP_NAME_SIZE = 40 };

static void
temp_name(char name[TEMP_NAME_SIZE])
{
	uint8_t noise[8];
	char hex[2 * sizeof(noise) + 1];

	random_bytes(noise, sizeof(noise));
	str_hex(noise, sizeof(noise), hex);
	(void)snprintf(
	    name, TEMP_NAME_SIZE, "%s%s%s", temp_head, hex, temp_tail);
}

static bool
is_temp_name(const char *name)
{
	size_t head = sizeof(temp_head) - 1;
	size_t tail = sizeof(temp_tail) - 1;
	size_t len = strlen(name);

	return len > head + tail && strncmp(name, temp_head, head) == 0 &&
	       strcmp(name + len - tail, temp_tail) == 0;
}

static int
write_all(int fd, const struct buf *text)
{
	const char *data = text->data;
	size_t len = text->len;
	ssize_t n;

	while (len > 0) {
		n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int
write_temp(int dirfd, const char *name, const struct buf *text, bool sync)
{
	int fd, rc;

	fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, text);
	if (rc == 0 && sync && fsync(fd) < 0)
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

/* 0, -EAGAIN or negative errno. */
static int
still_holds(int dirfd, const char *name, const struct buf *was)
{
	AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *found = xmalloc(was->len + 1);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	while (n != 0 && len <= was->len) {
		n = read(fd, found + len, was->len + 1 - len);
		if (n < 0 && errno != EINTR)
			return -errno;
		len += n > 0 ? (size_t)n : 0;
	}
	n = len == was->len && memcmp(found, was->data, len) == 0;
	secret_wipe(found, was->len + 1);
	return n ? 0 : -EAGAIN;
}

static int
replace_in(
    int dirfd, const char *name, const struct buf *was, const struct buf *now)
{
	char temp[TEMP_NAME_SIZE];
	int rc;

	temp_name(temp);
	rc = write_temp(dirfd, temp, now, true);
	if (rc == 0)
		rc = still_holds(dirfd, name, was);
	if (rc == 0 && renameat(dirfd, temp, dirfd, name) < 0)
		rc = -errno;
	if (rc < 0 && rc != -EEXIST)
		(void)unlinkat(dirfd, temp, 0);
	/* Too late to undo, and the bytes are in the file. */
	if (rc == 0)
		(void)fsync(dirfd);
	return rc;
}

/* The directory in which the file is, links followed; its name in *base. */
static int
open_real_dir(const char *dir, const char *name, char **real, char **base)
{
	AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
	int fd;

	*real = realpath(path, NULL);
	if (*real == NULL)
		return -errno;
	*base = strrchr(*real, '/');
	*(*base)++ = '\0';
	fd = open(
	    **real != '\0' ? *real : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int
atomic_file_replace(const char *dir, const char *name, const struct buf *was,
    const struct buf *now)
{
	AUTO_FREE char *real = NULL;
	AUTO_CLOSE int dirfd = -1;
	char *base;

	dirfd = open_real_dir(dir, name, &real, &base);
	return dirfd < 0 ? dirfd : replace_in(dirfd, base, was, now);
}

int
atomic_file_probe(const char *dir, const char *name, const struct buf *text)
{
	AUTO_FREE char *real = NULL;
	AUTO_CLOSE int dirfd = -1;
	char temp[TEMP_NAME_SIZE];
	char *base;
	int rc;

	dirfd = open_real_dir(dir, name, &real, &base);
	if (dirfd < 0)
		return dirfd;
	temp_name(temp);
	rc = write_temp(dirfd, temp, text, false);
	if (rc != -EEXIST)
		(void)unlinkat(dirfd, temp, 0);
	return rc;
}

void
atomic_file_sweep(const char *dir)
{
	struct dirent *entry;
	DIR *d = opendir(dir);

	if (d == NULL)
		return;
	while ((entry = readdir(d)) != NULL) {
		if (is_temp_name(entry->d_name) &&
		    unlinkat(dirfd(d), entry->d_name, 0) == 0)
			log_notice("removed %s/%s, which was left behind", dir,
			    entry->d_name);
	}
	(void)closedir(d);
}
