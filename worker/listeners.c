/* SPDX-License-Identifier: MIT */
#include "worker/listeners.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "common/alloc.h"
#include "common/handoff.h"
#include "common/ipc.h"
#include "common/log.h"
#include "worker/client/conn.h"

enum {
	ACCEPT_BATCH = 64, /* per turn, so that requests get theirs */
	ACCEPT_PAUSE_MS = 100
};

struct listener {
	struct listeners *all;
	int fd;
	bool ours;
	bool admin;
	struct event event;
};

struct listeners {
	struct worker *worker;
	struct listener *v;
	unsigned n;
	bool accepting;
	bool paused; /* out of descriptors; told once */
	struct event resume;
};

static void
poll_ours(struct listeners *ls, bool on)
{
	unsigned i;

	for (i = 0; i < ls->n; i++) {
		if (!ls->v[i].ours)
			continue;
		if (on)
			(void)event_add(&ls->v[i].event, NULL);
		else
			(void)event_del(&ls->v[i].event);
	}
}

/*
 * Out of descriptors or memory the socket stays readable and accept(2) keeps
 * failing: leave it alone for a moment instead of spinning.
 */
static void
pause_accepting(struct listeners *ls, int error)
{
	const struct timeval tv = { 0, ACCEPT_PAUSE_MS * 1000 };

	if (!ls->paused)
		log_warn_e(error, "cannot accept connections for now");
	ls->paused = true;
	poll_ours(ls, false);
	(void)evtimer_add(&ls->resume, &tv);
}

static void
on_resume(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct listeners *ls = arg;

	if (ls->accepting)
		poll_ours(ls, true);
}

static bool
is_of_the_peer(int error)
{
	static const int errors[] = { EINTR, ECONNABORTED, EPROTO, ENETDOWN,
		EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, ECONNRESET, EPERM };
	size_t i;

	for (i = 0; i < ARRAY_LEN(errors); i++) {
		if (errors[i] == error)
			return true;
	}
	return false;
}

/* Takes one connection; false when there is none to take. */
static bool
accept_one(struct listener *l)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		l->all->paused = false;
		conn_open(l->all->worker, fd, l->admin);
		return true;
	}
	if (errno == EAGAIN)
		return false;
	if (is_of_the_peer(errno))
		return true;
	pause_accepting(l->all, errno);
	return false;
}

static void
on_listener(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	int i;

	for (i = 0; i < ACCEPT_BATCH && accept_one(arg); i++)
		continue;
}

struct listeners *
listeners_new(struct worker *w, unsigned n)
{
	struct listeners *ls = xcalloc(1, sizeof(*ls));
	unsigned i;

	ls->worker = w;
	ls->n = n;
	ls->v = xcalloc(n, sizeof(*ls->v));
	evtimer_assign(&ls->resume, w->base, on_resume, ls);
	for (i = 0; i < n; i++) {
		ls->v[i].all = ls;
		ls->v[i].fd = HANDOFF_LISTEN + (int)i;
		(void)event_assign(&ls->v[i].event, w->base, ls->v[i].fd,
		    EV_READ | EV_PERSIST, on_listener, &ls->v[i]);
	}
	return ls;
}

void
listeners_free(struct listeners *ls)
{
	if (ls == NULL)
		return;
	poll_ours(ls, false);
	(void)event_del(&ls->resume);
	free(ls->v);
	free(ls);
}

void
listeners_adopt(struct listeners *ls, uint32_t index, uint32_t role)
{
	if (index >= ls->n || ls->v[index].ours)
		return;
	ls->v[index].ours = true;
	ls->v[index].admin = role == IPC_LISTENER_ADMIN;
	if (ls->accepting)
		(void)event_add(&ls->v[index].event, NULL);
}

void
listeners_release(struct listeners *ls, uint32_t index)
{
	if (index >= ls->n || !ls->v[index].ours)
		return;
	ls->v[index].ours = false;
	(void)event_del(&ls->v[index].event);
}

void
listeners_adopt_all(struct listeners *ls)
{
	unsigned i;

	for (i = 0; i < ls->n; i++)
		ls->v[i].ours = true;
}

void
listeners_start(struct listeners *ls)
{
	ls->accepting = true;
	poll_ours(ls, true);
}

void
listeners_stop(struct listeners *ls)
{
	unsigned i;

	if (ls->accepting)
		poll_ours(ls, false);
	for (i = 0; i < ls->n; i++) {
		while (ls->accepting && ls->v[i].ours && accept_one(&ls->v[i]))
			continue;
		(void)close(ls->v[i].fd);
	}
	ls->accepting = false;
	ls->n = 0;
}
