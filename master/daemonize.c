/* SPDX-License-Identifier: MIT */
#include "master/daemonize.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The byte that says all is well; a reason never begins with it. */
static const char ok = '\0';

/* It could not say why itself; how it ended is the only clue. */
static void
tell_death(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
		(void)fprintf(stderr,
		    "fairlead: died while it started: signal %d (%s)\n",
		    WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		(void)fputs("fairlead: died while it started\n", stderr);
}

static NORETURN void
wait_for_outcome(int fd, pid_t pid)
{
	char text[8192];
	size_t len = 0;
	ssize_t n;

	do {
		n = read(fd, text + len, sizeof(text) - len);
		if (n > 0)
			len += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (len > 0 && text[0] == ok)
		_exit(0);
	if (len == 0)
		tell_death(pid);
	else
		(void)fprintf(stderr, "fairlead: %.*s\n", (int)len, text);
	_exit(1);
}

/* Input from nowhere; output that no library of ours writes to. */
static int
leave_terminal(void)
{
	AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(null, STDOUT_FILENO) < 0)
		return -errno;
	return setsid() < 0 || chdir("/") < 0 ? -errno : 0;
}

int
daemonize(int *ready)
{
	int ends[2];
	pid_t pid;
	int rc;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		rc = -errno;
		(void)close(ends[0]);
		(void)close(ends[1]);
		return rc;
	}
	if (pid > 0) {
		(void)close(ends[1]);
		wait_for_outcome(ends[0], pid);
	}
	(void)close(ends[0]);
	*ready = ends[1];
	return leave_terminal();
}

static void
tell(int *ready, const char *text, size_t len)
{
	if (*ready < 0)
		return;
	/* If nobody waits any more there is nobody to tell. */
	if (write(*ready, text, len) < 0)
		errno = 0;
	(void)close(*ready);
	*ready = -1;
}

void
daemonize_ready(int *ready)
{
	tell(ready, &ok, 1);
}

void
daemonize_failed(int *ready, const char *why)
{
	tell(ready, why, strlen(why));
}
