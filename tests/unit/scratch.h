/* SPDX-License-Identifier: MIT */
/*
 * For tests that need files or several processes: a directory of their own,
 * children that run one function, and a gate that lets them all go at once.
 */
#ifndef FL_TESTS_UNIT_SCRATCH_H
#define FL_TESTS_UNIT_SCRATCH_H

#include <assert.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/attr.h"

struct scratch {
	char dir[64];
};

static inline void
scratch_make(struct scratch *s)
{
	(void)snprintf(s->dir, sizeof(s->dir), "/tmp/fairlead-test-XXXXXX");
	if (mkdtemp(s->dir) == NULL)
		abort();
}

static inline int
scratch_unlink(const char *path, const struct stat *st UNUSED, int type UNUSED,
    struct FTW *ftw UNUSED)
{
	return remove(path);
}

static inline void
scratch_remove(struct scratch *s)
{
	(void)nftw(s->dir, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* Runs fn in a child, whose exit status is what fn returns. */
static inline pid_t
child_start(int (*fn)(void *ctx), void *ctx)
{
	pid_t pid = fork();

	if (pid < 0)
		abort();
	if (pid == 0)
		_exit(fn(ctx));
	return pid;
}

/* The child's exit status; minus the signal that ended it. */
static inline int
child_wait(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		abort();
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static inline void
child_kill(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	(void)child_wait(pid);
}

/* Returns when the child has really stopped. */
static inline void
child_stop(pid_t pid)
{
	int status;

	(void)kill(pid, SIGSTOP);
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		abort();
}

/*
 * A gate: children wait in gate_pass() until the parent opens it. The other
 * way round, gate_tell() in a child ends gate_listen() in the parent.
 */
struct gate {
	int go[2];
	int here[2];
};

static inline void
gate_make(struct gate *g)
{
	if (pipe(g->go) < 0 || pipe(g->here) < 0)
		abort();
}

static inline void
gate_tell(struct gate *g)
{
	if (write(g->here[1], "x", 1) != 1)
		abort();
}

static inline void
gate_listen(struct gate *g)
{
	char c;

	if (read(g->here[0], &c, 1) != 1)
		abort();
}

static inline void
gate_pass(struct gate *g)
{
	char c;

	(void)close(g->go[1]);
	if (read(g->go[0], &c, 1) != 0)
		abort();
}

static inline void
gate_open(struct gate *g)
{
	(void)close(g->go[1]);
	g->go[1] = -1;
}

static inline void
gate_remove(struct gate *g)
{
	(void)close(g->go[0]);
	if (g->go[1] >= 0)
		(void)close(g->go[1]);
	(void)close(g->here[0]);
	(void)close(g->here[1]);
}

#endif
