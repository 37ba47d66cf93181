/* SPDX-License-Identifier: MIT */
#include "master/upgrade/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "common/log.h"
#include "master/spawn.h"

struct probe {
	probe_fn *fn;
	void *ctx;
	pid_t pid; /* 0: it has ended */
	int status;
	int output;
	struct event *readable; /* NULL: all of it is read */
	struct event *timer;
	struct buf text;
};

static void
finish_if_over(struct probe *p)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	if (p->pid != 0 || p->readable != NULL)
		return;
	text = xstrdup(buf_string(&p->text));
	len = strlen(text);
	if (len > 0 && text[len - 1] == '\n')
		text[len - 1] = '\0';
	p->fn(p->ctx, WIFEXITED(p->status) ? WEXITSTATUS(p->status) : -1, text);
}

static void
close_output(struct probe *p)
{
	if (p->readable == NULL)
		return;
	event_free(p->readable);
	p->readable = NULL;
	(void)close(p->output);
}

static void
read_output(struct probe *p)
{
	char chunk[4096];
	ssize_t n = read(p->output, chunk, sizeof(chunk));

	if (n > 0) {
		/* What is beyond its bound is not kept. */
		buf_append(&p->text, chunk, (size_t)n);
		return;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	close_output(p);
	finish_if_over(p);
}

static void
on_output(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	read_output(arg);
}

/* Whoever else has its output open is not waited for either. */
static void
give_up(struct probe *p)
{
	if (p->pid != 0)
		(void)kill(p->pid, SIGKILL);
	close_output(p);
	finish_if_over(p);
}

static void
on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	give_up(arg);
}

static NORETURN void
become(char *const *argv, int output)
{
	if (dup2(output, STDOUT_FILENO) >= 0 &&
	    dup2(output, STDERR_FILENO) >= 0) {
		spawn_reset_signals();
		(void)execv(argv[0], argv);
	}
	(void)dprintf(STDERR_FILENO, "%s\n", strerror(errno));
	_exit(SPAWN_EXEC_FAILED);
}

/* With signals blocked, as for a worker. */
static pid_t
fork_into(char *const *argv, int output)
{
	sigset_t all, before;
	pid_t pid;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		become(argv, output);
	if (pid < 0)
		pid = -errno;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

int
probe_start(struct event_base *base, char *const *argv, probe_fn *fn, void *ctx,
    struct probe **out)
{
	const struct timeval limit = { PROBE_TIMEOUT_MS / 1000, 0 };
	struct probe *p;
	int ends[2];
	pid_t pid;

	*out = NULL;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	pid = fork_into(argv, ends[1]);
	(void)close(ends[1]);
	if (pid < 0) {
		(void)close(ends[0]);
		return (int)pid;
	}
	p = xcalloc(1, sizeof(*p));
	p->fn = fn;
	p->ctx = ctx;
	p->pid = pid;
	p->output = ends[0];
	buf_init(&p->text, PROBE_OUTPUT_MAX);
	p->readable =
	    event_new(base, ends[0], EV_READ | EV_PERSIST, on_output, p);
	p->timer = evtimer_new(base, on_timer, p);
	if (p->readable == NULL || p->timer == NULL ||
	    event_add(p->readable, NULL) < 0 || event_add(p->timer, &limit) < 0)
		fatalx("out of memory");
	*out = p;
	return 0;
}

void
probe_child_ended(struct probe *p, pid_t pid, int status)
{
	if (pid != p->pid)
		return;
	p->pid = 0;
	p->status = status;
	finish_if_over(p);
}

void
probe_free(struct probe *p)
{
	if (p == NULL)
		return;
	if (p->pid != 0)
		(void)kill(p->pid, SIGKILL);
	close_output(p);
	event_free(p->timer);
	buf_fini(&p->text);
	free(p);
}
