/* SPDX-License-Identifier: MIT */
#include "master/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "build.h"
#include "common/alloc.h"
#include "common/handoff.h"

/* Signals that are ours alone: a worker ignores them from its first moment. */
static const int ignored[] = { SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE };

static int
write_all(int fd, const char *p, size_t len)
{
	ssize_t n;

	while (len > 0) {
		n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int
spawn_seal(const char *text, size_t len)
{
	const int seals =
	    F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int fd =
	    memfd_create("fairlead-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc;

	if (fd < 0)
		return -errno;
	rc = write_all(fd, text, len);
	if (rc == 0 &&
	    (lseek(fd, 0, SEEK_SET) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0))
		rc = -errno;
	if (rc < 0) {
		(void)close(fd);
		return rc;
	}
	return fd;
}

/* The path of a file that stands at a fixed place beside this program's. */
static char *
beside_program(const char *relative)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (n < 0)
		return NULL;
	path[n] = '\0';
	slash = strrchr(path, '/');
	if (slash == NULL)
		return NULL;
	slash[1] = '\0';
	return xasprintf("%s%s", path, relative);
}

int
spawn_open_program(int *fd, char **path)
{
	*path = beside_program("../worker/fairlead-worker");
	if (*path != NULL) {
		*fd = open(*path, O_PATH | O_CLOEXEC);
		if (*fd >= 0)
			return 0;
	}
	free(*path);
	*path = xstrdup(PATH_WORKER);
	*fd = open(*path, O_PATH | O_CLOEXEC);
	return *fd < 0 ? -errno : 0;
}

/* Which descriptor shall stand at each number of the contract. */
struct layout {
	int *fds;
	int n;
};

static struct layout
plan_layout(const struct spawn *s, int control, int snapshot, int null)
{
	struct layout l = { .n = HANDOFF_LISTEN + (int)s->nlisteners };

	l.fds = xcalloc((size_t)l.n, sizeof(l.fds[0]));
	l.fds[STDIN_FILENO] = null;
	l.fds[STDOUT_FILENO] = null;
	l.fds[HANDOFF_LOG] = s->stderr_fd;
	l.fds[HANDOFF_CONTROL] = control;
	l.fds[HANDOFF_CONFIG] = snapshot;
	if (s->nlisteners > 0)
		memcpy(l.fds + HANDOFF_LISTEN, s->listeners,
		    s->nlisteners * sizeof(l.fds[0]));
	return l;
}

/*
 * In two passes, so that no descriptor is overwritten before it is moved.
 * Returns the program's new number, or negative errno.
 */
static int
arrange(struct layout *l, int program)
{
	int i;

	for (i = 0; i < l->n; i++) {
		l->fds[i] = fcntl(l->fds[i], F_DUPFD_CLOEXEC, l->n);
		if (l->fds[i] < 0)
			return -errno;
	}
	program = fcntl(program, F_DUPFD_CLOEXEC, l->n);
	if (program < 0)
		return -errno;
	for (i = 0; i < l->n; i++) {
		if (dup2(l->fds[i], i) < 0)
			return -errno;
	}
	/*
	 * All of ours are close-on-exec anyway; this is the proof for what a
	 * library may have opened (Linux 5.11, or it is not to be had).
	 */
	(void)close_range((unsigned)l->n, ~0u, CLOSE_RANGE_CLOEXEC);
	return program;
}

void
spawn_reset_signals(void)
{
	sigset_t none;
	int number;
	size_t i;

	for (number = 1; number < NSIG; number++)
		(void)signal(number, SIG_DFL);
	for (i = 0; i < ARRAY_LEN(ignored); i++)
		(void)signal(ignored[i], SIG_IGN);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The child, from fork to exec. */
static NORETURN void
become_worker(const struct spawn *s, struct layout *l)
{
	char slot[16], generation[24], listeners[16];
	char name[] = "fairlead-worker";
	char *argv[HANDOFF_ARG_COUNT + 1] = { [0] = name,
		[HANDOFF_ARG_SLOT] = slot,
		[HANDOFF_ARG_GENERATION] = generation,
		[HANDOFF_ARG_LISTENERS] = listeners };
	int program = arrange(l, s->program);

	if (program >= 0) {
		(void)snprintf(slot, sizeof(slot), "%u", s->slot);
		(void)snprintf(
		    generation, sizeof(generation), "%" PRIu64, s->generation);
		(void)snprintf(
		    listeners, sizeof(listeners), "%zu", s->nlisteners);
		spawn_reset_signals();
		(void)execveat(program, "", argv, environ, AT_EMPTY_PATH);
		program = -errno;
	}
	(void)dprintf(STDERR_FILENO, "fairlead: cannot execute %s: %s\n", name,
	    strerror(-program));
	_exit(SPAWN_EXEC_FAILED);
}

/*
 * With signals blocked: a handler of the event loop that ran in the child
 * would write into the pipe that the parent reads.
 */
static pid_t
fork_worker(const struct spawn *s, struct layout *l)
{
	sigset_t all, before;
	pid_t pid;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		become_worker(s, l);
	if (pid < 0)
		pid = -errno;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static int
start(const struct spawn *s, int theirs, pid_t *pid)
{
	AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	AUTO_CLOSE int snapshot = spawn_seal(s->snapshot, s->snapshot_len);
	struct layout layout;

	if (null < 0)
		return -errno;
	if (snapshot < 0)
		return snapshot;
	layout = plan_layout(s, theirs, snapshot, null);
	*pid = fork_worker(s, &layout);
	free(layout.fds);
	return *pid < 0 ? *pid : 0;
}

int
spawn_worker(const struct spawn *s, pid_t *pid, int *control)
{
	int ends[2];
	int rc;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		0, ends) < 0)
		return -errno;
	rc = start(s, ends[1], pid);
	(void)close(ends[1]);
	if (rc < 0)
		(void)close(ends[0]);
	else
		*control = ends[0];
	return rc;
}
