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
write_all(int fd, const char *data, size_t len)
{
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
	return fsync(fd) < 0 ? -errno : 0;
}

static int
write_temp(int dirfd, const char *name, const void *data, size_t len)
{
	int fd, rc;

	fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, data, len);
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

static int
replace_in(int dirfd, const char *name, const void *data, size_t len)
{
	char temp[TEMP_NAME_SIZE];
	int rc;

	temp_name(temp);
	rc = write_temp(dirfd, temp, data, len);
	if (rc == 0 && renameat(dirfd, temp, dirfd, name) < 0)
		rc = -errno;
	if (rc < 0 && rc != -EEXIST)
		(void)unlinkat(dirfd, temp, 0);
	if (rc == 0 && fsync(dirfd) < 0)
		rc = -errno;
	return rc;
}

int
atomic_file_replace(
    const char *dir, const char *name, const void *data, size_t len)
{
	AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
	AUTO_FREE char *real = realpath(path, NULL);
	AUTO_CLOSE int dirfd = -1;
	char *slash;

	if (real == NULL)
		return -errno;
	slash = strrchr(real, '/');
	*slash = '\0';
	dirfd = open(
	    *real != '\0' ? real : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	return replace_in(dirfd, slash + 1, data, len);
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
