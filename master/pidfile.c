/* SPDX-License-Identifier: MIT */
#include "master/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/alloc.h"

static int
write_pid(const char *path)
{
	AUTO_CLOSE int fd = -1;

	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	/* The umask is for secrets; this is read by whoever asks. */
	if (fchmod(fd, 0644) < 0 || dprintf(fd, "%ld\n", (long)getpid()) < 0)
		return -errno;
	return 0;
}

int
pidfile_write(const char *path)
{
	AUTO_FREE char *fresh = xasprintf("%s.new", path);
	int rc = write_pid(fresh);

	if (rc == 0 && rename(fresh, path) < 0)
		rc = -errno;
	if (rc < 0)
		(void)unlink(fresh);
	return rc;
}

void
pidfile_remove(const char *path)
{
	AUTO_FCLOSE FILE *file = fopen(path, "re");
	char text[24];

	if (file == NULL || fgets(text, sizeof(text), file) == NULL)
		return;
	if (strtol(text, NULL, 10) == (long)getpid())
		(void)unlink(path);
}
