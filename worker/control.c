/* SPDX-License-Identifier: MIT */
#include "worker/control.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "common/alloc.h"
#include "common/handoff.h"
#include "common/log.h"
#include "worker/client/conn.h"
#include "worker/listeners.h"
#include "worker/relay/relay.h"

enum {
	ORPHAN_LOOK_MS = 200, /* how often an orphan looks for a new master */
	ORPHAN_MAX_MS = 5000
};

struct control {
	struct worker *worker;
	struct event event;
	struct event orphan;
	uint64_t incarnation; /* of the master that was lost */
	int orphan_ms;
};

static void
on_start(struct worker *w, struct ipc_message *m UNUSED)
{
	if (w->state != WORKER_READY)
		return;
	w->state = WORKER_SERVING;
	atomic_store(&w->slot->state, BOARD_SLOT_SERVING);
	listeners_start(w->listeners);
}

static void
on_drain(struct worker *w, struct ipc_message *m UNUSED)
{
	worker_drain(w);
}

static void
on_close_idle(struct worker *w, struct ipc_message *m UNUSED)
{
	conns_close_idle(w->conns);
}

static void
on_adopt(struct worker *w, struct ipc_message *m)
{
	const struct ipc_listener *l = &m->u.listener;

	listeners_adopt(w->listeners, l->index, l->role);
}

static void
on_release(struct worker *w, struct ipc_message *m)
{
	listeners_release(w->listeners, m->u.listener.index);
}

static void
replace_fd(int *fd, int with)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = with;
}

static void
on_log_fd(struct worker *w, struct ipc_message *m)
{
	switch (m->u.log.kind) {
	case IPC_LOG_ERROR:
		if (m->fd >= 0)
			log_to_fd(m->fd);
		else
			log_to_syslog();
		break;
	case IPC_LOG_ACCESS:
		replace_fd(&w->access_fd, m->fd);
		break;
	case IPC_LOG_USAGE:
		replace_fd(&w->usage_fd, m->fd);
		/* Now the file before is not written to any more. */
		atomic_store(&w->slot->usage_epoch, m->u.log.epoch);
		break;
	default:
		return;
	}
	m->fd = -1;
}

static void
on_wake(struct worker *w, struct ipc_message *m UNUSED)
{
	relays_wake(w->relays);
}

static const struct {
	enum ipc_type type;
	void (*handle)(struct worker *w, struct ipc_message *m);
} handlers[] = {
	{ IPC_START, on_start },
	{ IPC_DRAIN, on_drain },
	{ IPC_CLOSE_IDLE, on_close_idle },
	{ IPC_ADOPT, on_adopt },
	{ IPC_RELEASE, on_release },
	{ IPC_LOG_FD, on_log_fd },
	{ IPC_WAKE, on_wake },
};

static void
handle(struct worker *w, struct ipc_message *m)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(handlers); i++) {
		if (handlers[i].type == m->header.type)
			handlers[i].handle(w, m);
	}
	if (m->fd >= 0)
		(void)close(m->fd);
}

static void
wait_on(struct control *c)
{
	const struct timeval tv = { 0, ORPHAN_LOOK_MS * 1000 };

	(void)evtimer_add(&c->orphan, &tv);
}

/*
 * The master is gone. A new one is probably on its way and will bind the same
 * addresses, so this worker serves on until it is there, or for a while.
 */
static void
become_orphan(struct control *c)
{
	struct worker *w = c->worker;

	log_warn("the master is gone");
	(void)event_del(&c->event);
	if (w->state != WORKER_SERVING) {
		worker_drain(w);
		return;
	}
	c->incarnation = atomic_load(&w->board->incarnation);
	wait_on(c);
}

static void
on_orphan(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct control *c = arg;

	c->orphan_ms += ORPHAN_LOOK_MS;
	if (c->orphan_ms < ORPHAN_MAX_MS &&
	    atomic_load(&c->worker->board->incarnation) == c->incarnation) {
		wait_on(c);
		return;
	}
	/*
	 * A socket lives until the last orphan lets go of it, and with it what
	 * has come in since its own worker has left.
	 */
	listeners_adopt_all(c->worker->listeners);
	worker_drain(c->worker);
}

static void
on_control(evutil_socket_t fd, short what UNUSED, void *arg)
{
	struct control *c = arg;
	struct ipc_message m;
	int rc;

	/* What a newer master says and this worker cannot read is let pass. */
	while ((rc = ipc_receive(fd, &m)) == 0 || rc == -EPROTO) {
		if (rc == 0)
			handle(c->worker, &m);
	}
	if (rc == -EAGAIN)
		return;
	if (rc < 0)
		log_error_e(rc, "cannot read from the master");
	become_orphan(c);
}

struct control *
control_new(struct worker *w)
{
	struct control *c = xcalloc(1, sizeof(*c));

	c->worker = w;
	(void)evutil_make_socket_nonblocking(HANDOFF_CONTROL);
	(void)event_assign(&c->event, w->base, HANDOFF_CONTROL,
	    EV_READ | EV_PERSIST, on_control, c);
	evtimer_assign(&c->orphan, w->base, on_orphan, c);
	(void)event_add(&c->event, NULL);
	return c;
}

void
control_free(struct control *c)
{
	if (c == NULL)
		return;
	(void)event_del(&c->event);
	(void)event_del(&c->orphan);
	free(c);
}

void
control_send_ready(struct worker *w UNUSED)
{
	if (ipc_send(HANDOFF_CONTROL, IPC_READY, NULL, 0, -1) < 0)
		fatalx("cannot tell the master that this worker is ready");
}

void
control_send_drained(struct worker *w UNUSED)
{
	/* The master may be gone, and then nobody needs to know. */
	(void)ipc_send(HANDOFF_CONTROL, IPC_DRAINED, NULL, 0, -1);
}

void
control_send_result(struct worker *w UNUSED, const struct ipc_result *result)
{
	(void)ipc_send(
	    HANDOFF_CONTROL, IPC_RESULT, result, sizeof(*result), -1);
}

void
control_send_need_refresh(
    struct worker *w UNUSED, const struct ipc_refresh *refresh)
{
	(void)ipc_send(
	    HANDOFF_CONTROL, IPC_NEED_REFRESH, refresh, sizeof(*refresh), -1);
}
