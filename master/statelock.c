/* SPDX-License-Identifier: MIT */
#include "master/statelock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/str.h"

static pid_t
read_holder(int fd)
{
	char text[24];
	int64_t pid;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return str_to_int(text, 1, INT32_MAX, &pid) == 0 ? (pid_t)pid : 0;
}

int
statelock_take(const char *dir, const char *name, int *fd, pid_t *holder)
{
	AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
	int rc;

	*holder = 0;
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0)
		return -errno;
	if (flock(*fd, LOCK_EX | LOCK_NB) == 0) {
		statelock_sign(*fd);
		return 0;
	}
	rc = errno == EWOULDBLOCK ? STATELOCK_HELD : -errno;
	*holder = read_holder(*fd);
	(void)close(*fd);
	*fd = -1;
	return rc;
}

void
statelock_sign(int fd)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

	/* What stands there is for people: the lock holds without it. */
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)len, 0) != len)
		log_debug("cannot write a pid to its lock");
}
